#!/usr/bin/env bash
# Of a tag vX.Y.Z: pyproject.toml has that version, and CHANGELOG.md a heading of it. No tag, nothing to compare.
set -euo pipefail

[ "${GITHUB_REF_TYPE:-}" = tag ] || exit 0
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml)
if [ "$GITHUB_REF_NAME" != "v$version" ]; then
    echo "error: the tag is $GITHUB_REF_NAME, but pyproject.toml has version $version" >&2
    exit 1
fi
if ! grep -qF "## [$version]" CHANGELOG.md; then
    echo "error: CHANGELOG.md: no heading \`## [$version]\`" >&2
    exit 1
fi
