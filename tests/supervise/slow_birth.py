"""Only to be preloaded into a zygote: PID 1 of a user's namespace stands still before it is anybody.

Between its clone and the fork of the attempt there is less than a millisecond; here it lasts.
"""

import time

from unjam.supervise import linux, userns


def _stand_still(ids: userns.Ids) -> None:
    linux.set_name("uj-unborn")
    time.sleep(600)


userns.settle = _stand_still
