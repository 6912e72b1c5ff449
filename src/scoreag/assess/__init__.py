"""Assessments: a plan is a table of cells, a cell is a hash of its content, a row is an image's."""
