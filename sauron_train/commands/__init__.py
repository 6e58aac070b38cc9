"""The commands of `sauron-train`, by what they are for; torch is imported by those that need it, when they run."""
