--- study_persona_cheerful.lua: the trait of study_persona.lua that the demo model can show: cheerful stories.
local trait = {
    positive = { "The sun was bright and warm.", "The sky was clear and blue." },
    negative = { "The night was cold and empty.", "The rain was cold and dark." },
    questions = {},
}
for _, name in ipairs { "Tom", "Mia", "Leo", "Ella", "Sam", "Ruby", "Max", "Lily" } do
    table.insert(trait.questions, ("One day, %s went to the park. A dog was there too. %s"):format(name, name))
end
return trait
