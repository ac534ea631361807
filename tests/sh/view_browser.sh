#!/bin/sh
# view_browser.sh CHROMIUM: the page of a view opens in headless Chromium without a network, light and dark, and a token that
# is pointed at shows its numbers.
set -eu
chromium=$1
root=$PWD
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat >"$folder/view.lua" <<'LUA'
local steer = require "steer"
local lm = steer.model(arg[1] .. "/tests/fixtures/demo-model", { device = "cpu" })
local data = steer.load(arg[1] .. "/tests/fixtures/demo/activations.safetensors", { device = "cpu" })
local mood = steer.extract.mean_difference(data["happy.last"], data["sad.last"])
local spec = steer.spec { [5] = { steer.add(mood[5], 1) } }
local out = lm:generate { { prompt = "One day, <b>Tom</b> & \"Mia\" saw 漢🙂 in", spec = spec, max_tokens = 12 } }
out:view { project = { ["mood <5>"] = mood }, layers = { 5, 6, 7 }, html = arg[2] .. "/view.html", title = "<Moods>" }
LUA
"$root/scripts/steer" run "$folder/view.lua" "$root" "$folder"

# browse FRAGMENT OPTION...: no network, no first-run work, a profile of its own; what the page logs goes to log.
browse() {
    fragment=$1
    shift
    "$chromium" --headless --no-sandbox --disable-gpu --disable-background-networking --no-first-run \
        --user-data-dir="$folder/profile" --host-resolver-rules='MAP * ~NOTFOUND' --enable-logging=stderr \
        --window-size=1300,760 "$@" "file://$folder/view.html$fragment" 2>"$folder/log"
}

browse '' --dump-dom >"$folder/dom.html"
if grep CONSOLE "$folder/log"; then
    echo "the browser complains about the page"
    exit 1
fi
for text in '<h1>&lt;Moods&gt;</h1>' '<th>steered</th><th>unsteered</th>' 'mood &lt;5&gt;<br>after layer 7' '漢' '🙂' \
    'class="t first"' 'background:rgba('; do
    grep -qF "$text" "$folder/dom.html" || { echo "the page lacks $text"; exit 1; }
done
if grep -q '<b>' "$folder/dom.html"; then
    echo "text of a token became a tag"
    exit 1
fi
browse '' --screenshot="$folder/light.png" --blink-settings=preferredColorScheme=1 >/dev/null
browse '' --screenshot="$folder/dark.png" --blink-settings=preferredColorScheme=0 >/dev/null
browse '#steered-1-2-1' --screenshot="$folder/pointed.png" --blink-settings=preferredColorScheme=1 >/dev/null
for picture in light dark pointed; do
    [ "$(wc -c <"$folder/$picture.png")" -gt 10000 ] || { echo "$picture.png is empty"; exit 1; }
done
if cmp -s "$folder/light.png" "$folder/dark.png"; then
    echo "dark looks like light"
    exit 1
fi
if cmp -s "$folder/light.png" "$folder/pointed.png"; then
    echo "a token that is pointed at shows nothing"
    exit 1
fi
