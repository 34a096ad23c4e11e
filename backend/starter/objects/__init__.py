"""The things of the starter's wider world: how they are built, coloured, combined and called."""
