"""HTML, SVG and text that several pages share."""
