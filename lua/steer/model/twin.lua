--- What an unsteered twin says of the tokens of a request, as generate and score give it.
local M = {}

--- Reads a sequence's twin.
-- @param session
-- @tparam number id of a sequence with a twin
-- @tparam table tokens the ids that were judged: those given from logprobs_from on, or the generated ones
-- @treturn table kl (per token KL(steered || unsteered) over the whole vocabulary, in nats), mean_kl, logprobs (of each
-- token under the twin), divergence (index of the first token that is not the likeliest one of the twin, which choosing
-- greedily would have gone on otherwise there; nil if there is none)
function M.read(session, id, tokens)
    local twin = session:twin(id)
    local result, total = { kl = twin.kl, logprobs = twin.logprobs }, 0
    for i, kl in ipairs(twin.kl) do
        total = total + kl
        if not result.divergence and twin.likeliest[i] ~= tokens[i] then result.divergence = i end
    end
    result.mean_kl = #twin.kl > 0 and total / #twin.kl or 0
    return result
end

return M
