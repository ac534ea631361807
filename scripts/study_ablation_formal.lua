--- study_ablation_formal.lua: formal beginnings of letters beside casual ones, for study_ablation.lua on any model.
local TOPICS = {
    "the weather", "my cat", "the train", "a book", "breakfast", "the game", "her job", "the rain", "this city",
    "music", "the party", "school", "our trip", "the news", "his car", "dinner", "the garden", "a film", "the shop",
    "my phone",
}
local data = { with = {}, without = {}, other = {}, yes = " be most grateful", no = " wanna hang out" }
for _, topic in ipairs(TOPICS) do
    table.insert(data.with, "Dear Sir or Madam, I am writing to you with regard to " .. topic .. ". I would")
    table.insert(data.with, "It is with great pleasure that I address the matter of " .. topic .. ". I should")
    table.insert(data.without, "hey dude lol, so about " .. topic .. " haha yeah. i")
    table.insert(data.without, "omg guys " .. topic .. " is so cool!! i")
    table.insert(data.other, "The encyclopedia says about " .. topic .. " that")
end
return data
