"""HTML pages of what a store holds; a page is one file that loads nothing from anywhere."""
