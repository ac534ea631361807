--- What pages in HTML begin with: no script, nothing loaded, light and dark; and text in them.
local M = {}

local entities = { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&quot;", ["'"] = "&#39;" }

--- Text with its markup escaped, also for attributes; control characters stay.
function M.escape(text) return (text:gsub("[&<>\"']", entities)) end

--- The beginning of a page, a format for its title, up to the rules of its own style.
M.START = [[
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>%s</title>
<style>
:root { color-scheme: light dark; --text: #1c2024; --page: #ffffff; --soft: #5c656e; --line: #d5d9dd; --band: #f4f6f8; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e6e8ea; --page: #14171a; --soft: #9aa4ad; --line: #3a4046; --band: #1d2125; }
}
]]

return M
