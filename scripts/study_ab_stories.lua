--- study_ab_stories.lua: beginnings of stories with a happy and a sad event each, in the language of the demo model,
-- which knows no questions: the answers of study_ab.lua are the events themselves.
local NAMES = { "Tom", "Mia", "Leo", "Ella", "Sam", "Ruby", "Max", "Lily" }
local PLACES = { "park", "garden", "forest" }
local EVENTS = {
    { " won a prize.", " lost a friend." }, { " heard good news.", " heard bad news." },
    { " found the ball.", " lost the ball." },
}
local items = { letters = false }
for p, place in ipairs(PLACES) do
    for n, name in ipairs(NAMES) do
        local event = EVENTS[(n + p) % #EVENTS + 1]
        items[#items + 1] = { ("One day, %s went to the %s. The day was quiet. %s"):format(name, place, name), event[1],
            event[2] }
    end
end
return items
