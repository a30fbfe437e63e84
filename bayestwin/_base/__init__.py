"""What everything else stands on: the process, files, units, progress and wording. Nothing here knows of twins."""
