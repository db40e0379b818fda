"""Who gets in: pure code, the specification that every engine enforces in a compiled form."""
