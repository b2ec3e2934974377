"""The error that a user of `lossfold train` can mend: shown as one message, without a traceback."""


class TrainError(ValueError):
    """Something about the data, the configuration or the run folder that the user has to change."""
