--- Text that is written to a terminal as it comes: no word is broken that fits into a row.
local helper = require "helper"
local layout = require "steer.repl.layout"
local wrap = require "steer.cli._wrap"

-- The rows of a terminal after a text: characters, newlines, cursor left, erase to the end of the row.
local function rows_of(written)
    local rows, row = {}, {}
    local at = 1
    while at <= #written do
        local left = written:match("^\27%[(%d+)D\27%[K", at)
        if left then
            local columns = 0
            while columns < tonumber(left) do columns = columns + select(2, layout.cell(table.remove(row))) end
            assert.equal(tonumber(left), columns)
            at = at + #left + 6
        else
            local character = layout.characters(written:sub(at, at + 3))[1]
            if character == "\n" then
                rows[#rows + 1], row = table.concat(row), {}
            else
                row[#row + 1] = character
            end
            at = at + #character
        end
    end
    rows[#rows + 1] = table.concat(row)
    return rows
end

-- Writes characters in random pieces.
local function wrapped(text, width)
    local out, piece = {}, ""
    local writer = wrap.new(function(t) out[#out + 1] = t end, function() return width end)
    for _, character in ipairs(layout.characters(text)) do
        piece = piece .. character
        if math.random() < 0.3 then
            writer:push(piece)
            piece = ""
        end
    end
    writer:push(piece)
    return rows_of(table.concat(out))
end

describe("text on a terminal", function()
    it("breaks between words, and within those that are longer than a row", function()
        assert.same({ "The little", "dog looked", "at the sky" }, wrapped("The little dog looked at the sky", 11))
        assert.same({ "A", "", "", "paragraph", "of words" }, wrapped("A\n\n\nparagraph of words", 10))
        assert.same({ "an ", "incomprehens", "ibility is" }, wrapped("an incomprehensibility is", 13))
        assert.same({ "日本語", "日本" }, wrapped("日本語日本", 8))
    end)

    it("of any kind loses nothing and stays within its rows", function()
        helper.with_seed(helper.seed, function()
            local words = { "a", "dog", "considerable", "日本語", "naïve", "x\u{301}y", "sixteencharacter" }
            for _ = 1, helper.rounds(200) do
                local list = {}
                for i = 1, math.random(40) do list[i] = words[math.random(#words)] end
                local text, width = table.concat(list, " "), math.random(18, 60)
                local rows = wrapped(text, width)
                for _, row in ipairs(rows) do assert.is_true(layout.width(row) < width, row) end
                assert.equal((text:gsub(" ", "")), (table.concat(rows):gsub(" ", "")))
                for word in table.concat(rows, " "):gsub("[日本語]", ""):gmatch "%S+" do
                    assert.truthy((" " .. text .. " "):find(word, 1, true), word)
                end
            end
        end)
    end)
end)
