"""Make an lm-eval task of files of documents: read them, find text, choices and answer in them, write the task."""
