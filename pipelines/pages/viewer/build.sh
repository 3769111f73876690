#!/usr/bin/env bash
# Builds viewer.min.js, after a change to viewer.js or to the versions in package.json. Needs Node.js with npm.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp package.json viewer.js "$work"
(cd "$work" && npm install --silent --no-audit --no-fund)
cp "$work/node_modules/three/LICENSE" LICENSE.three
sum=$(cat viewer.js package.json | sha256sum | cut -d " " -f 1)
# The licence goes into each page with the code.
banner="/* Built by build.sh from sources with the SHA-256 $sum and from three.js:

$(cat LICENSE.three)
*/"
"$work/node_modules/.bin/esbuild" "$work/viewer.js" --bundle --minify --format=iife --target=es2021 --charset=ascii \
  --legal-comments=none --log-level=warning --banner:js="$banner" --outfile=viewer.min.js
