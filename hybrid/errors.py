"""What may be shown to a user: every error says what is wrong, where, and how to mend it."""


class HybridError(ValueError):
    """Base of all errors of this package; its text is written for the user."""


class DatasetError(HybridError):
    """A file or a table that cannot be used as it is."""


class TierError(HybridError):
    """A tier that cannot be fitted or asked, or an answer that breaks the rules."""


class BundleError(HybridError):
    """A bundle that cannot be written, read or trusted."""


class SupportError(HybridError):
    """A setting of the support pipeline that cannot be used, or a ticket that cannot be read."""


class StudyError(HybridError):
    """A study that cannot be kept, opened or asked for what it does not hold."""


class StoreError(HybridError):
    """A store of answers and projects that cannot be opened, trusted or written."""
