"""One module a target, each with `TestOneInput(data: bytes)`; `fuzz.harness.targets` lists them."""
