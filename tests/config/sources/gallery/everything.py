from gallery.unimportable import *  # noqa: F403
