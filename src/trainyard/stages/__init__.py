"""One file a DVC stage, named as the stage: parse, build, run, write."""
