--- study_ablation_mood.lua: happy beginnings of stories, for study_ablation.lua on the demo model.
local folder = arg[0]:match("^(.*)/[^/]*$") or "."
local file = assert(io.open(folder .. "/../tests/fixtures/demo/prompts.json"))
local prompts = require("dkjson").decode(file:read "*a")
file:close()
return {
    with = prompts.happy, without = prompts.sad, other = prompts.neutral, yes = " heard good news",
    no = " heard bad news",
}
