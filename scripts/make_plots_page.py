"""Write the page that `dvc plots show` fills, with Vega inside: DVC's own loads it from the network.

python scripts/make_plots_page.py FILE        `make setup` does, and tells DVC of the file
"""

import sys
from pathlib import Path

import vl_convert

VEGA_LITE = "5.20"  # the major version that DVC's templates are written in
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
{refresh_tag}
<title>Plots of the line</title>
<link rel="icon" href="data:,">
<style>
body { margin: 24px auto; padding: 0 20px; max-width: 1120px; font: 16px/1.5 system-ui, sans-serif; }
main > div { margin: 24px 0; overflow-x: auto; }
img { max-width: 100%; height: auto; }
</style>
<script>
VEGA
</script>
</head>
<body>
<main>
<h1>Plots of the line</h1>
{plot_divs}
</main>
</body>
</html>
"""

if __name__ == "__main__":
    bundle = vl_convert.javascript_bundle(vl_version=VEGA_LITE).replace("</script", "<\\/script")
    Path(sys.argv[1]).write_text(PAGE.replace("VEGA", bundle), encoding="utf-8")
