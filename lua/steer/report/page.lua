--- The page of a report while it is written: its parts, notes and figures, and what it looks like.
local html = require "steer.core.html"
local results = require "steer.sweep.results"

local M = {}

local Page = {}
Page.__index = Page

--- Text of a value with its markup escaped.
function M.escape(value)
    return (html.escape(results.text(value)):gsub("[%z\1-\8\11\12\14-\31\127]", "\239\191\189"))
end

--- Makes a page without parts: a list of texts, with notes (what it lacks, texts) and figures (how many).
function M.new() return setmetatable({ notes = {}, figures = 0 }, Page) end

--- Adds a text; with more arguments it is a format for them.
function Page:add(format, ...)
    self[#self + 1] = select("#", ...) > 0 and format:format(...) or format
end

--- Adds a note: something that the page lacks, or that the reader must know.
function Page:note(text)
    self.notes[#self.notes + 1] = text
    self:add('<p class="note">%s</p>', M.escape(text))
end

-- gnuplot's SVG for a page: names of its own, colours of the page, no titles of its parts.
local function inline(svg, number, title)
    local prefix = ("plot%d-"):format(number)
    local body = svg:match("<svg.->(.*)</svg>")
    body = body:gsub("<title>.-</title>", ""):gsub("<desc>.-</desc>", ""):gsub("<[^>]*>", function(tag)
        return tag:gsub("id=(['\"])", "id=%1" .. prefix):gsub("href=(['\"])#", "href=%1#" .. prefix)
            :gsub("url%(#", "url(#" .. prefix):gsub("rgb%( +0, +0, +0%)", "currentColor")
    end)
    return ('<svg role="img" aria-label="%s" %s>%s</svg>'):format(M.escape(title),
        svg:match('viewBox="[^"]*"') .. ' xmlns:xlink="http://www.w3.org/1999/xlink"', body)
end

--- Adds a figure with its number and caption.
-- @tparam string svg as gnuplot writes it
-- @tparam string caption
-- @tparam[opt] boolean wide whether it takes the width of the page
function Page:figure(svg, caption, wide)
    self.figures = self.figures + 1
    self:add('<figure%s><div class="drawing">%s</div><figcaption><b>Figure %d.</b> %s</figcaption></figure>',
        wide and ' class="whole"' or "", inline(svg, self.figures, caption), self.figures, M.escape(caption))
end

--- Adds a table.
-- @tparam table head list of cells' texts, or nil
-- @tparam table rows list of lists of cells, as HTML
-- @tparam[opt] string class of the table
function Page:table(head, rows, class)
    self:add('<div class="wide"><table%s>', class and (' class="%s"'):format(class) or "")
    if head then
        local words = {}
        for i, text in ipairs(head) do -- over its numbers
            local right = rows[1] and rows[1][i]:find('^<td class="number') and ' class="number"' or ""
            words[i] = ("<th%s>%s</th>"):format(right, text)
        end
        self:add("<thead><tr>%s</tr></thead>", table.concat(words))
    end
    self:add("<tbody>")
    for _, row in ipairs(rows) do self:add("<tr>%s</tr>", table.concat(row)) end
    self:add("</tbody></table></div>")
end

--- Runs a function that adds what a reader may unfold.
-- @tparam string title
-- @tparam table opts open (whether it is unfolded at first), screen (true: it is not printed)
-- @tparam function add
function Page:folded(title, opts, add)
    self:add("<details%s%s><summary>%s</summary>", opts.screen and ' class="screen"' or "", opts.open and " open" or "",
        M.escape(title))
    add()
    self:add("</details>")
end

--- A table cell of text, of a number, and of words that may be long.
M.cells = {
    text = function(value) return ("<td>%s</td>"):format(value == nil and "" or M.escape(value)) end,
    number = function(value) return ('<td class="number">%s</td>'):format(M.escape(value)) end,
    words = function(value) return ('<td class="words">%s</td>'):format(M.escape(value)) end,
}

--- The beginning of the page, a format for its title.
M.HEAD = html.START .. [[
body { margin: 0 auto; padding: 1.5rem; max-width: 88rem; color: var(--text); background: var(--page);
  font: 16px/1.5 system-ui, "Helvetica Neue", Arial, sans-serif; }
h1 { margin: 0; font-size: 1.7rem; overflow-wrap: anywhere; }
h2 { margin: 2.2rem 0 .6rem; font-size: 1.25rem; }
h3 { margin: 1.6rem 0 .5rem; font-size: 1.05rem; }
p { margin: .3rem 0 .8rem; color: var(--soft); max-width: 60rem; }
.note { padding: .6rem .8rem; background: var(--band); color: var(--text); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .92rem; }
th, td { padding: .3rem .8rem; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
thead th { background: var(--band); white-space: nowrap; }
tbody tr:hover { background: var(--band); }
.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
.best b, .best span { white-space: nowrap; }
.none, small { color: var(--soft); font-weight: normal; }
small { font-size: .85em; }
code { font: .9em ui-monospace, "DejaVu Sans Mono", monospace; overflow-wrap: anywhere; }
.paper { display: none; }
details { margin: .8rem 0; }
summary { cursor: pointer; padding: .2rem 0; font-weight: 600; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%%, 26rem), 1fr)); gap: 1.4rem; }
.plots + .plots { margin-top: 1.2rem; }
.whole { grid-column: 1 / -1; max-width: none; }
.words { min-width: 14rem; overflow-wrap: anywhere; }
figure { margin: 0; min-width: 0; max-width: 42rem; }
figcaption { color: var(--soft); font-size: .88rem; margin-top: .3rem; }
figcaption b { color: var(--text); }
.drawing { overflow-x: auto; background: #fff; }
figure svg { display: block; width: 100%%; height: auto; color: #1c2024; }
.whole svg { min-width: 44rem; }
figure svg [color=black] { color: #1c2024; }
figure svg [stroke=black] { stroke: #1c2024; }
figure svg [fill=black] { fill: #1c2024; }
figure svg .gridline { stroke: #d5d9dd; }
@media (prefers-color-scheme: dark) { .drawing { padding: .5rem; border-radius: .4rem; } }
@media (max-width: 40rem) {
  body { padding: .8rem; }
  th, td { padding: .25rem .5rem; }
  .best th, .best td { padding: .25rem .3rem; }
  .best td small { display: none; }
}
@media print {
  :root { color-scheme: light; --text: #000; --page: #fff; --soft: #333; --line: #bbb; --band: #eee; }
  @page { margin: 16mm 14mm; }
  body { padding: 0; max-width: none; font-size: 10pt; line-height: 1.35; }
  h2, h3, summary { break-after: avoid; }
  figure, tr, .note { break-inside: avoid; }
  figure svg, thead th { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  .wide, .drawing { overflow: visible; padding: 0; }
  .plots { grid-template-columns: 1fr 1fr; gap: 5mm; }
  .whole svg { min-width: 0; }
  .screen { display: none; }
  .paper { display: block; }
  details::details-content { content-visibility: visible; display: block; }
  summary { list-style: none; }
  th, td { padding: .12rem .45rem; }
}
</style>
</head>
<body>
]]

return M
