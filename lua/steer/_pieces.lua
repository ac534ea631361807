--- Tokens as pieces of text that a person reads: whole characters, each with the token that completes it.
local M = {}

--- Gives the text that each token of a list adds; all of them together are what decode gives. A token that ends within
-- a character has "", and without a tokenizer each is its id.
-- @param lm model
-- @tparam table ids
-- @treturn table list of texts
function M.of(lm, ids)
    local pieces = {}
    if not lm.tokenizer then
        for i, id in ipairs(ids) do pieces[i] = " #" .. id end
        return pieces
    end
    local stream = lm.tokenizer:stream()
    for i, id in ipairs(ids) do pieces[i] = stream:push(id) end
    pieces[#ids] = pieces[#ids] .. stream:finish()
    return pieces
end

--- Gives the text of one token.
function M.one(lm, id) return lm.tokenizer and lm:decode { id } or "#" .. id end

return M
