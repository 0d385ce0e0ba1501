"""Starting and watching the graph: one description of it, an embedded runner, parts of launch files."""
