"""What this computer can do with a model: counted, measured, and written down (`liveloc bench`)."""
