"""Members that several families of generated objects share."""
