--- A view of projections as one HTML page: no script, nothing loaded.
local html = require "steer.core.html"
local paint = require "steer.view.paint"

local M = {}

local STRONGEST = 0.6 -- opacity of a colour behind text

local function number(x) return ("%.4g"):format(x) end

-- Text for HTML; what HTML has no place for is U+FFFD.
local function escape(text)
    return (html.escape(text):gsub("[%z\1-\8\11-\31\127]", "\239\191\189")
        :gsub("\194[\128-\159]", "\239\191\189"))
end

-- A piece of text as it is shown: breaks and tokens without text of their own can be seen.
local function shown(piece)
    if piece == "" then return "\194\183" end
    return (escape(piece):gsub("\n", "\226\134\181\n"))
end

local function background(x, row)
    local t = math.max(-1, math.min(1, (x - row.center) / row.spread))
    if math.abs(t) < paint.PALE then return "" end
    local rgb = t < 0 and paint.LOW or paint.HIGH
    return (' style="background:rgba(%d,%d,%d,%.3f)"'):format(rgb[1], rgb[2], rgb[3], STRONGEST * math.abs(t))
end

-- What a token says on hover.
local function tip(result, row, i)
    local words = { ("%s after layer %d"):format(row.name, row.layer) }
    for _, side in ipairs { "steered", "unsteered" } do
        if result[side] then
            words[#words + 1] = ("%s %s"):format(side, number(result[side][row.index][i]))
        end
    end
    words[#words + 1] = ("id %d, position %d, %s"):format(result.tokens[i], i - 1,
        i > result.prompt_tokens and "response" or "prompt")
    return escape(table.concat(words, "\n"))
end

local function cell(out, result, row, side, id)
    out[#out + 1] = '<td dir="auto">'
    for i, piece in ipairs(result.pieces) do
        local first = i == result.prompt_tokens + 1 and " first" or ""
        out[#out + 1] = ('<span class="t%s" id="%s-%d"%s data-tip="%s">%s</span>'):format(first, id, i - 1,
            background(result[side][row.index][i], row), tip(result, row, i), shown(piece))
    end
    out[#out + 1] = "</td>"
end

local function add_result(out, view, n)
    local result, sides = view[n], {}
    for _, side in ipairs { "steered", "unsteered" } do
        if result[side] then sides[#sides + 1] = side end
    end
    if #view > 1 then out[#out + 1] = ("<h2>Request %d</h2>"):format(n) end
    out[#out + 1] = "<table><thead><tr><th></th>"
    for _, side in ipairs(sides) do out[#out + 1] = "<th>" .. side .. "</th>" end
    out[#out + 1] = "</tr></thead><tbody>\n"
    for k, row in ipairs(view.rows) do
        out[#out + 1] = ('<tr><th>%s<br>after layer %d<div class="scale"><i></i><span>%s</span><span>%s</span>'
            .. "<span>%s</span></div></th>"):format(escape(row.name), row.layer, number(row.center - row.spread),
            number(row.center), number(row.center + row.spread))
        for _, side in ipairs(sides) do cell(out, result, row, side, ("%s-%d-%d"):format(side, n, k)) end
        out[#out + 1] = "</tr>\n"
    end
    out[#out + 1] = "</tbody></table>\n"
end

local HEAD = html.START .. [[
body { margin: 0 auto; padding: 1.5rem 1.5rem 8rem; max-width: 100rem; color: var(--text); background: var(--page);
  font: 16px/1.6 system-ui, "Helvetica Neue", Arial, sans-serif; }
h1 { margin: 0 0 .4rem; font-size: 1.5rem; }
h2 { margin: 2rem 0 .6rem; font-size: 1.1rem; }
p { margin: .3rem 0 .8rem; color: var(--soft); }
table { border-collapse: collapse; width: 100%%; }
th, td { padding: .5rem .8rem; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
thead th { background: var(--band); }
tbody th { width: 11rem; font-weight: normal; color: var(--soft); font-size: .85rem; line-height: 1.4; }
td { white-space: pre-wrap; overflow-wrap: anywhere; }
td + td { border-left: 1px solid var(--line); }
.t { position: relative; unicode-bidi: isolate; border-radius: 2px; cursor: default; }
.t.first { border-left: 2px solid var(--text); }
.t:hover, .t:target { outline: 1px solid var(--text); z-index: 1; }
.t:hover::after, .t:target::after { content: attr(data-tip); position: absolute; left: 0; top: 1.8em; z-index: 2;
  padding: .4rem .6rem; color: var(--page); background: var(--text); border-radius: 4px; white-space: pre;
  direction: ltr; font: 13px/1.4 ui-monospace, "DejaVu Sans Mono", monospace; pointer-events: none; }
.scale { display: flex; flex-wrap: wrap; justify-content: space-between; margin-top: .3rem; font-size: .75rem; }
.scale i { flex-basis: 100%%; height: .5rem; border: 1px solid var(--line);
  background: linear-gradient(to right, rgba(%s,%s), transparent, rgba(%s,%s)); }
@media print { .t { print-color-adjust: exact; } }
</style>
</head>
<body>
<h1>%s</h1>
<p>Each token on the colour of its hidden state's projection; the numbers show on hover. A bar begins the response.</p>
]]

--- Gives a view as the text of an HTML page.
-- @param view as lm:view gives
-- @tparam[opt] string title
function M.page(view, title)
    local name, out = escape(title or "Projections of tokens"), {}
    out[1] = HEAD:format(name, table.concat(paint.LOW, ","), STRONGEST, table.concat(paint.HIGH, ","), STRONGEST, name)
    for n = 1, #view do add_result(out, view, n) end
    out[#out + 1] = "</body>\n</html>\n"
    return table.concat(out)
end

return M
