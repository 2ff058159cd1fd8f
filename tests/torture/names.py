"""How jobs, attempts and leaves of a run are called, so that every process can be told whose it is."""

JOB_DIGITS, ATTEMPT_DIGITS = 5, 4


def job_id(number: int) -> str:
    return f"t{number:0{JOB_DIGITS}d}"


def attempt_name(job: str, attempt: int) -> str:
    """As the process of the attempt is called (`uj:` before it): the kernel keeps 15 bytes, which suffice."""
    return f"{job}/{attempt}"


def job_and_number(attempt: str) -> tuple[str, int]:
    job, _, number = attempt.partition("/")
    return job, int(number)


def token_of(run: str, job: str, attempt: int) -> str:
    """The digits in the argument of every leaf of that attempt."""
    return f"{run}{job[1:]}{attempt:0{ATTEMPT_DIGITS}d}"


def attempt_of_token(run: str, token: str) -> str | None:
    """The attempt whose leaf carries the token; None when it is of another run."""
    own = token.removeprefix(run)
    if own == token or len(own) != JOB_DIGITS + ATTEMPT_DIGITS or not own.isdigit():
        return None
    return attempt_name("t" + own[:JOB_DIGITS], int(own[JOB_DIGITS:]))
