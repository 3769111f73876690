"""Positions, headings and times that cameras recorded in photos' EXIF and XMP metadata; the step `positions`."""
