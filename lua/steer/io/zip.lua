--- Zip archives, as NumPy and PyTorch write them: members that are stored or deflated, with zip64 sizes.
local bit = require "bit"
local file = require "steer.io._file"

local M = {}

local MAX_DIRECTORY = 2 ^ 26 -- bytes; a thousand members take about a hundred thousand
local U16, U32 = 2 ^ 16 - 1, 2 ^ 32 - 1 -- in place of a number that stands in a zip64 record
local STORED, DEFLATED = 0, 8

local Archive = {}
Archive.__index = Archive

local function number(text, kind, at) return file.unpack(kind, text:sub(at + 1, at + file.sizes[kind])) end

-- ---- The directory -------------------------------------------------------------------------------------------------

-- The record that ends an archive, and where it begins: before it, at the end of the file, only a comment may follow.
local function find_end(map)
    local length = math.min(map.size, 22 + U16)
    local tail = map:bytes(map.size - length, length, "the end")
    for at = length - 22, 0, -1 do
        if tail:sub(at + 1, at + 4) == "PK\5\6" and at + 22 + number(tail, "u16", at + 20) == length then
            return tail:sub(at + 1, at + 22), map.size - length + at
        end
    end
    map:fail("the archive has no directory at its end: the file is cut short or damaged")
end

-- Members, bytes and place of the directory.
local function find_directory(map)
    local record, at = find_end(map)
    local count, size, offset = number(record, "u16", 10), number(record, "u32", 12), number(record, "u32", 16)
    if count ~= U16 and size ~= U32 and offset ~= U32 then return count, size, offset end
    if at < 20 or map:bytes(at - 20, 4, "zip64 locator") ~= "PK\6\7" then return count, size, offset end
    local place = number(map:bytes(at - 20, 20, "zip64 locator"), "u64", 8)
    local wide = map:bytes(place, 56, "zip64 record")
    if wide:sub(1, 4) ~= "PK\6\6" then map:fail("the zip64 record at %.0f is none", place) end
    return number(wide, "u64", 32), number(wide, "u64", 40), number(wide, "u64", 48)
end

-- Fills in what the zip64 field among the extra fields says.
local function widen(map, member, extra)
    local at = 0
    while at + 4 <= #extra do
        local id, size = number(extra, "u16", at), number(extra, "u16", at + 2)
        local field = extra:sub(at + 5, at + 4 + size)
        at = at + 4 + size
        for _, key in ipairs(id == 1 and { "raw_size", "size", "offset" } or {}) do
            if member[key] == U32 then
                if #field < 8 then map:fail("member %s: its zip64 field is cut short", file.quote(member.name)) end
                member[key], field = number(field, "u64", 0), field:sub(9)
            end
        end
    end
end

-- The member whose entry begins at `at` of the directory's text, and where the next one does.
local function read_entry(map, text, at)
    if at + 46 > #text or text:sub(at + 1, at + 4) ~= "PK\1\2" then
        map:fail("the directory of the archive is damaged at byte %d", at)
    end
    local name_size, extra_size = number(text, "u16", at + 28), number(text, "u16", at + 30)
    local stop = at + 46 + name_size + extra_size + number(text, "u16", at + 32)
    if stop > #text then map:fail("the directory of the archive is cut short") end
    local member = {
        name = text:sub(at + 47, at + 46 + name_size), flags = number(text, "u16", at + 8),
        method = number(text, "u16", at + 10), crc = number(text, "u32", at + 16), size = number(text, "u32", at + 20),
        raw_size = number(text, "u32", at + 24), offset = number(text, "u32", at + 42),
    }
    widen(map, member, text:sub(at + 47 + name_size, at + 46 + name_size + extra_size))
    return member, stop
end

--- Opens the archive in a map.
-- @return an archive: .names is the list of its members
function M.open(map)
    local count, size, offset = find_directory(map)
    if size > MAX_DIRECTORY then
        map:fail("the directory of %.0f bytes is above the limit of %d", size, MAX_DIRECTORY)
    end
    local text, at = map:bytes(offset, size, "the directory of the archive"), 0
    local archive = setmetatable({ map = map, names = {}, members = {} }, Archive)
    if count > size / 46 then map:fail("%.0f members do not fit into a directory of %.0f bytes", count, size) end
    for i = 1, count do
        local member
        member, at = read_entry(map, text, at)
        if archive.members[member.name] then map:fail("member %s is there twice", file.quote(member.name)) end
        archive.names[i], archive.members[member.name] = member.name, member
    end
    return archive
end

-- ---- Members -------------------------------------------------------------------------------------------------------

--- A member as a map: a part of the file, or what it inflates to. nil if there is none of this name.
function Archive:open(name)
    local member, map = self.members[name], self.map
    if not member then return nil end
    local what = "member " .. file.quote(name)
    if bit.band(member.flags, 1) ~= 0 then map:refuse("%s is encrypted", what) end
    local head = map:bytes(member.offset, 30, what)
    if head:sub(1, 4) ~= "PK\3\4" then map:fail("%s does not begin where the directory says", what) end
    local start = member.offset + 30 + number(head, "u16", 26) + number(head, "u16", 28)
    if start + member.size > map.size then map:fail("%s reaches past the end of the file", what) end
    if member.method == DEFLATED then
        return map:inflate(name, start, member.size, member.raw_size, member.crc)
    elseif member.method ~= STORED then
        map:refuse("%s is compressed by method %d, expected stored or deflated", what, member.method)
    elseif member.size ~= member.raw_size then
        map:fail("%s: stored as %.0f bytes, but it has %.0f", what, member.size, member.raw_size)
    end
    return map:part(name, start, member.size)
end

return M
