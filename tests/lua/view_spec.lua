-- Views of projections: the numbers against captures, colours, the table, the page, bad input.
-- devices: cpu cuda
local files = require "files"
local helper = require "helper"
local steer = require "steer"

local T = steer.tensor
local fails, near = helper.fails, helper.near

local BOUND = helper.device == "cpu" and 1e-6 or 0.01 -- bf16 in other batches
local PROMPT = "One evening, Ruby went to the garden with a black boat. Ella"
local MIXED = 'e\204\129 <b>&amp;\'"\n\230\188\162\240\159\153\130 \226\128\174x\7'

local function entities(text)
    local map = { ["&lt;"] = "<", ["&gt;"] = ">", ["&quot;"] = '"', ["&#39;"] = "'", ["&amp;"] = "&" }
    return (text:gsub("&[%w#]+;", map))
end

describe("a view", function()
    local lm, v, w, spec
    setup(function()
        lm = steer.model("tests/fixtures/demo-model", { device = helper.device })
        local data = steer.load("tests/fixtures/demo/activations.safetensors", { device = helper.device })
        local all = steer.extract.mean_difference(data["happy.last"], data["sad.last"])
        v, w = all[5], { [4] = all[4], [5] = all[5] }
        spec = steer.spec { [5] = { steer.add(v, 1) } }
    end)
    teardown(files.done)

    it("of what was generated has the projections of those very tokens", function()
        local out = lm:generate {
            { prompt = PROMPT, spec = spec, max_tokens = 12 }, { prompt = PROMPT, max_tokens = 4 },
        }
        local view = out:view { project = { mood = v, other = w }, layers = { 4, 5 } }
        assert.equal(2, #view)
        local found = {}
        for i, row in ipairs(view.rows) do found[i] = row.name .. row.layer end
        assert.same({ "mood4", "mood5", "other4", "other5" }, found)
        local ids = lm:encode(PROMPT)
        local whole = { unpack(ids) }
        for _, id in ipairs(out[1].tokens) do whole[#whole + 1] = id end
        assert.same(whole, view[1].tokens)
        assert.equal(#ids, view[1].prompt_tokens)
        assert.equal(PROMPT .. out[2].text, table.concat(view[2].pieces):gsub("<|endoftext|>", ""), nil)
        assert.is_nil(view[2].steered)
        local request = { tokens = ids, response = out[1].tokens }
        for side, with in pairs { steered = spec, unsteered = false } do
            local states = lm:capture({ request }, { tokens = "all", spec = with or nil, layers = { 4, 5 } })
            for k, row in ipairs(view.rows) do
                local direction = row.name == "mood" and v or w[row.layer]
                local want = states:select(2, row.layer - 3):matmul(direction:to("f32")):totable()
                local most = 0
                for _, x in ipairs(want) do most = math.max(most, math.abs(x)) end
                assert.equal(#want, #view[1][side][k])
                for i, x in ipairs(want) do near(view[1][side][k][i], x, most * BOUND, row.name) end
            end
        end
        -- Adding v after layer 5 moves every projection there by its squared length.
        local gap = v:to("f32"):norm() ^ 2
        for i = 1, #whole do near(view[1].steered[2][i] - view[1].unsteered[2][i], gap, 0.03 * gap, "steered") end
    end)

    it("chooses a centre, or takes one", function()
        local view = lm:view(PROMPT, { project = { mood = w } })
        for k, row in ipairs(view.rows) do
            local below, above = 0, 0
            for _, x in ipairs(view[1].unsteered[k]) do
                below, above = below + (x < row.center and 1 or 0), above + (x > row.center and 1 or 0)
            end
            assert(math.abs(below - above) <= 1 and row.spread > 0)
        end
        assert.equal(7, lm:view(PROMPT, { project = { mood = v }, layers = 5, center = 7 }).rows[1].center)
        assert.equal(8, lm:view(PROMPT, { project = { mood = w }, center = { mood = 8 } }).rows[2].center)
    end)

    it("is coloured text for a terminal", function()
        local view = lm:view({ prompt = PROMPT, response = " smiled.", spec = spec }, { project = { mood = w } })
        for _, colours in ipairs { 24, 256 } do
            local text = view:text { colours = colours, columns = 50 }
            assert.truthy(text:find("\27[38;5;15;48;" .. (colours == 24 and "2;178;24;43m" or "5;124m"), 1, true), text)
            local plain = text:gsub("\27%[[%d;]*m", "")
            for line in plain:gmatch "[^\n]+" do assert(#line <= 50 or line:find "after layer", line) end
            local joined = plain:gsub("\n           ", "")
            assert.truthy(joined:find("steered    " .. PROMPT .. "| smiled.", 1, true), joined)
            assert.truthy(joined:find("unsteered  " .. PROMPT .. "| smiled.", 1, true), joined)
            assert.truthy(plain:find("mood after layer 4: ", 1, true))
        end
        fails("invalid_argument", "colours: 16", view.text, view, { colours = 16 })
    end)

    it("is a table of numbers where there are no colours", function()
        local view = lm:view({ prompt = PROMPT, spec = spec }, { project = { mood = w }, layers = 5 })
        local text = view:text { colours = false }
        local lines = {}
        for line in (text .. "\n"):gmatch "(.-)\n" do lines[#lines + 1] = line end
        assert.equal("token             mood@5  mood@5 unsteered", lines[1])
        assert.equal(#view[1].tokens + 1, #lines)
        for i, piece in ipairs(view[1].pieces) do
            local a, b = lines[i + 1]:match " (%-?[%d.e+]+) +(%-?[%d.e+]+)$"
            assert.equal(piece, lines[i + 1]:sub(1, #piece))
            near(tonumber(a), view[1].steered[1][i], 1e-3 * math.abs(view[1].steered[1][i]), piece)
            near(tonumber(b), view[1].unsteered[1][i], 1e-3 * math.abs(view[1].unsteered[1][i]), piece)
        end
    end)

    it("prints no colours into a pipe, and none where NO_COLOR is set", function()
        local script = [[
            local steer = require "steer"
            local lm = steer.model("tests/fixtures/demo-model", { device = "cpu" })
            local v = steer.tensor.ones({ lm.hidden }, { device = "cpu" })
            print(lm:view("One day", { project = { v = v }, layers = 3 }))]]
        local text = files.script(script, "TERM=xterm; export TERM;")
        assert.truthy(text:find("token%s+v@3"), text)
        assert.falsy(text:find("\27", 1, true))
        if os.execute "command -v script >/dev/null 2>&1" ~= 0 then return end
        local function on_terminal(environment)
            local pipe = io.popen(("%s script -qec \"luajit '%s'\" /dev/null"):format(environment,
                files.path "script.lua"))
            local output = pipe:read "*a"
            pipe:close()
            return output
        end
        assert.truthy(on_terminal("TERM=xterm COLORTERM=truecolor NO_COLOR="):find("48;2;", 1, true))
        assert.truthy(on_terminal("TERM=xterm COLORTERM= NO_COLOR="):find("48;5;", 1, true))
        assert.falsy(on_terminal("TERM=xterm COLORTERM=truecolor NO_COLOR=1"):find("\27", 1, true))
        assert.falsy(on_terminal("TERM=dumb COLORTERM=truecolor NO_COLOR="):find("\27", 1, true))
    end)

    it("keeps any UTF-8 whole, in text and page", function()
        local path = files.path "view.html"
        local view = lm:view({ prompt = MIXED, spec = spec },
            { project = { ["a<b>"] = v }, layers = { 2, 5 }, html = path, title = "<x> & 'y'" })
        assert.equal(MIXED, table.concat(view[1].pieces))
        local html = files.get(path)
        assert.truthy(html:find("<title>&lt;x&gt; &amp; &#39;y&#39;</title>", 1, true))
        assert.truthy(html:find("a&lt;b&gt;<br>after layer 2", 1, true))
        assert.falsy(html:find("<b>", 1, true))
        assert.falsy(html:find "<script")
        assert.falsy(html:find "https?://")
        assert.truthy(html:find("default-src 'none'", 1, true))
        local cells = 0
        for cell in html:gmatch '<td dir="auto">(.-)</td>' do
            local parts = {}
            for text in cell:gmatch "<span[^>]*>(.-)</span>" do
                parts[#parts + 1] = text ~= "\194\183" and text or ""
            end
            assert.equal((MIXED:gsub("\n", "\226\134\181\n"):gsub("\7", "\239\191\189")), entities(table.concat(parts)))
            cells = cells + 1
        end
        assert.equal(4, cells) -- two layers, steered beside unsteered
        local tip = html:match 'id="steered%-1%-2%-0"[^>]*data%-tip="(.-)"'
        assert.equal(("a<b> after layer 5\nsteered %.4g\nunsteered %.4g\nid %d, position 0, prompt"):format(
            view[1].steered[2][1], view[1].unsteered[2][1], view[1].tokens[1]), entities(tip))
    end)

    it("shows ids where there is no tokenizer", function()
        local tiny = steer.model("tests/fixtures/models/llama", { device = helper.device, dtype = "f32" })
        local view = tiny:view({ tokens = { 5, 6 } }, { project = { v = T.ones({ tiny.hidden }) } })
        assert.same({ " #5", " #6" }, view[1].pieces)
        assert.equal(tiny.layers, #view.rows)
    end)

    it("shows any name, in as many columns as it takes", function()
        local long, wide, hostile = ("x"):rep(300), ("\208\185"):rep(9), "\27[2J\nx"
        local view = lm:view("One day", { project = { [long] = v, [wide] = v, [hostile] = v }, layers = 5 })
        local plain, lines = view:text { colours = false }, {}
        for line in plain:gmatch "[^\n]+" do lines[#lines + 1] = line end
        assert.truthy(lines[1]:find(long .. "@5", 1, true))
        assert.truthy(lines[1]:find("\\x1b[2J\\nx@5", 1, true))
        local columns = #lines[1] - 9 -- nine letters are of two bytes
        for i = 2, #lines do assert.equal(columns, #lines[i], lines[i]) end
        assert.falsy((plain .. view:text { colours = 24 }):find("\27[2J", 1, true))
    end)

    it("of embeddings has directions of layer 0", function()
        local view = lm:view("One day", { project = { mood = { [0] = v, [5] = w[5] } }, at = "embed" })
        assert.equal(1, #view.rows)
        assert.equal(0, view.rows[1].layer)
        fails("invalid_argument", "project.mood[0]: expected a tensor", lm.view, lm, "One day",
            { project = { mood = w }, at = "embed" })
    end)

    it("says what is wrong", function()
        local function f(opts) return lm:view(PROMPT, opts) end
        local out = lm:generate { { prompt = PROMPT, max_tokens = 1 } }
        fails("invalid_argument", "project: expected a table", f, {})
        fails("invalid_argument", "project: it is empty", f, { project = {} })
        fails("invalid_argument", "project.mood: expected a tensor [192]", f, { project = { mood = 3 } })
        fails("shape_mismatch", "project.mood: [3], expected [192]", f, { project = { mood = T.ones { 3 } } })
        fails("invalid_argument", "project.mood[2]: expected a tensor", f, { project = { mood = w }, layers = 2 })
        fails("invalid_argument", "layers[1]: 8 is out of range", f, { project = { mood = v }, layers = 8 })
        fails("invalid_argument", "layers: the list is empty", f, { project = { mood = v }, layers = {} })
        fails("invalid_argument", 'center: project has no "mod", did you mean "mood"', f,
            { project = { mood = v }, center = { mod = 1 } })
        fails("invalid_argument", "center.mood: nan", f, { project = { mood = v }, center = { mood = 0 / 0 } })
        fails("invalid_argument", "is not finite", f, { project = { mood = v * (0 / 0) }, layers = 5 })
        fails("invalid_argument", "requests[2]: its prompt has no tokens", lm.view, lm, { "a", { tokens = {} } },
            { project = { mood = v } })
        fails("invalid_argument", "requests: the list is empty", lm.view, lm, {}, { project = { mood = v } })
        fails("io", "nowhere", f, { project = { mood = v }, layers = 5, html = files.path "nowhere/x.html" })
        fails("invalid_argument", "call it with a colon", out.view, { project = { mood = v } })
    end)
end)
