#!/bin/sh
# report_browser.sh CHROMIUM: a report of a real sweep opens in headless Chromium without a network, light and dark, on
# paper and 390 pixels wide.
set -eu
chromium=$1
steer=$PWD/scripts/steer
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
cat >sweep.lua <<'LUA'
local steer = require "steer"
return steer.sweep {
    name = "browser",
    axes = { "rows=[1,8,64]", "op=[add,mul]" },
    skip = function(case) return case.rows == 64 and case.op == "mul" and "not <wanted>" or nil end,
    run = function(case)
        if case.rows == 8 and case.op == "mul" then error("broken & bent", 0) end
        local x = steer.tensor.ones({ case.rows, 64 }, { device = "cpu" })
        return steer.bench.time(function() x:mul_(1) end, { device = "cpu", max_seconds = 0.01 })
    end,
}
LUA
"$steer" sweep sweep.lua --device cpu -q || [ $? -eq 1 ] # one case fails
"$steer" report browser.jsonl

page=browser.html
# browse OPTION...: no network, no first-run work, a profile of its own; what the page logs goes to log.
browse() {
    "$chromium" --headless --no-sandbox --disable-gpu --disable-background-networking --no-first-run \
        --user-data-dir="$folder/profile" --host-resolver-rules='MAP * ~NOTFOUND' --enable-logging=stderr \
        --window-size=1400,1200 "$@" "file://$folder/$page" 2>log
}

browse --dump-dom >dom.html
if grep CONSOLE log; then
    echo "the browser complains about the page"
    exit 1
fi
for text in '<h1>browser</h1>' '<p>4 cases measured, 1 failed, 1 skipped</p>' 'broken &amp; bent' 'not &lt;wanted&gt;' \
    '<h2>Environment</h2>'; do
    grep -qF "$text" dom.html || { echo "the page lacks $text"; exit 1; }
done
if command -v gnuplot >/dev/null 2>&1; then
    grep -q '<svg role="img"' dom.html || { echo "the page lacks its plot"; exit 1; }
fi
browse --screenshot=light.png --blink-settings=preferredColorScheme=1 >/dev/null
browse --screenshot=dark.png --blink-settings=preferredColorScheme=0 >/dev/null
for picture in light.png dark.png; do
    [ "$(wc -c <"$picture")" -gt 10000 ] || { echo "$picture is empty"; exit 1; }
done
if cmp -s light.png dark.png; then
    echo "dark looks like light"
    exit 1
fi

browse --print-to-pdf=page.pdf >/dev/null
if [ "$(head -c 4 page.pdf)" != %PDF ] || [ "$(wc -c <page.pdf)" -lt 10000 ]; then
    echo "the page does not print"
    exit 1
fi

# A page around it, which may have a script, measures it where it is as wide as a phone.
cat >phone.html <<'HTML'
<iframe id="page" width="390" height="800" src="browser.html"></iframe>
<script>
onload = () => {
    const root = page.contentDocument.documentElement
    document.body.append("the page " + (root.scrollWidth <= root.clientWidth ? "fits" : "is cut off"))
}
</script>
HTML
page=phone.html
browse --allow-file-access-from-files --dump-dom >phone_dom.html
grep -q 'the page fits' phone_dom.html || { echo "the page is wider than a phone"; exit 1; }
