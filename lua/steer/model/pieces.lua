--- Tokens as pieces of text that a person reads: whole characters, each with the token that completes it.
local M = {}

-- Ids that no token has: rows of the head beyond the tokenizer's vocabulary.
local function is_token(lm, id) return lm.tokenizer ~= nil and id < lm.tokenizer.vocab end

--- Gives the text that each token of a list adds; all of them together are what decode gives. A token that ends within
-- a character has "", and an id without a token, or without a tokenizer, is its number.
-- @param lm model
-- @tparam table ids
-- @treturn table list of texts
function M.of(lm, ids)
    local pieces, stream = {}, lm.tokenizer and lm.tokenizer:stream()
    for i, id in ipairs(ids) do pieces[i] = is_token(lm, id) and stream:push(id) or " #" .. id end
    if stream then pieces[#ids] = pieces[#ids] .. stream:finish() end
    return pieces
end

--- Gives the text of one token.
function M.one(lm, id) return is_token(lm, id) and lm:decode { id } or "#" .. id end

return M
