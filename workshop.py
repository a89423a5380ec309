#!/usr/bin/env python3
"""Start the workshop: python3 workshop.py COMMAND [OPTIONS].

  run        download, benchmark and chart the models, and write a report under runs/
  check      is every model listed, cached, served, and does it answer?
  import     turn a GGUF file into models that Foundry Local serves
  register   offer a model of your own beside the others
  unregister no longer offer it
  registered the models of your own, and whether they can be used
  compare    what changed between two results, with intervals
  lab        open JupyterLab on the notebooks
  test       run every check
  reference  make the shipped reference results anew
  fleet      one plan on many machines (needs requirements-fleet.txt)

Only the first start needs the network: it makes .venv and installs requirements.txt into it.
The first "test" adds requirements-test.txt. "workshop.py COMMAND --help" lists the options.
"""

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
VENV = HERE / ".venv"
STAMP = VENV / "workshop-stamp.txt"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
REQUIREMENTS = HERE / "requirements.txt"
COMMANDS = (
    "run", "check", "import", "register", "unregister", "registered", "compare", "lab", "test", "reference", "fleet",
)  # fmt: skip
LONGEST = 180  # characters of the longest path below this folder, one in .venv, with a reserve
LONG_PATHS = r"SYSTEM\CurrentControlSet\Control\FileSystem"
PIP = "-m pip install --quiet --no-input --disable-pip-version-check --retries 2 --no-deps --no-compile -r"
TOOLS = {"test": ("requirements-test.txt", "requirements-fleet.txt")}  # what a command needs besides
COMPILE = r"-W ignore -m compileall -qq -j 0 -x site-packages.+[\\/]tests?[\\/]"


class SetupError(Exception):
    """The environment cannot be made: why, and what to do."""


def wanted_stamp():
    """Say what a finished .venv is made from: this Python and these requirements."""
    return f"Python {sys.version}\nrequirements.txt {hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()}\n"


def is_ready(stamp):
    """Return True for a finished .venv of the same origin; a broken-off one has no stamp."""
    try:
        return STAMP.read_text(encoding="utf-8") == stamp and PYTHON.exists()
    except (OSError, UnicodeDecodeError):
        return False


def has_long_paths():
    """Return False on a Windows whose programs may not write paths of more than 259 characters."""
    if os.name != "nt":
        return True
    import winreg

    try:
        with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, LONG_PATHS) as key:
            return winreg.QueryValueEx(key, "LongPathsEnabled")[0] == 1
    except OSError:
        return False


def check_length(folder, long_paths):
    """Refuse a folder in which the longest file of .venv could not be written."""
    length, most = len(str(folder)), 259 - LONGEST - 1
    if not long_paths and length > most:
        raise SetupError(
            f"The path of this folder has {length} characters, and this Windows allows {most} here. Move the folder "
            "nearer to the top of the drive, or allow long paths, in a PowerShell started as administrator: "
            rf"New-ItemProperty HKLM:\{LONG_PATHS} -Name LongPathsEnabled -Value 1 -PropertyType DWORD -Force"
        )


def make_environment(stamp):
    """Make .venv anew with everything in it, importable from any folder; stamp it last."""
    import shutil
    import sysconfig

    try:
        import ensurepip  # noqa: F401 - venv needs it; Debian packs both apart from Python
        import venv
    except ImportError as error:
        raise SetupError(f"{error}. Install it (Debian: apt install python3-venv).") from None
    check_length(HERE, has_long_paths())
    say("Making .venv and installing requirements.txt, a minute or two (once) ...")
    try:
        if VENV.is_symlink():
            VENV.unlink()  # what it leads to belongs to another folder, and stays as it is
        elif os.path.lexists(VENV):
            STAMP.unlink(missing_ok=True)
            shutil.rmtree(VENV)
        venv.create(VENV, with_pip=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise SetupError(f"Cannot make .venv ({error}). Close what uses it.") from None
    packages = sysconfig.get_path("purelib", "venv", {"base": str(VENV)})
    install(REQUIREMENTS)
    subprocess.run([str(PYTHON), *COMPILE.split(), packages], check=False)  # what fails is not imported either
    Path(packages, "workshop.pth").write_text(os.path.relpath(HERE, packages), encoding="utf-8")
    STAMP.write_text(stamp, encoding="utf-8")


def install(requirements):
    """Install pinned requirements; nothing is left to resolve, so it is mostly download."""
    command = [str(PYTHON), *PIP.split(), str(requirements)]
    pip = subprocess.run(command, stderr=subprocess.PIPE, errors="replace", check=False)
    if pip.returncode:
        errors = [line for line in pip.stderr.splitlines() if line.startswith("ERROR: ")]
        reason = errors[-1][len("ERROR: ") :] if errors else f"exit code {pip.returncode}"
        fix = "Check network, proxy and free disk (1.5 GB), then start again."
        raise SetupError(f"Cannot install {requirements.name} (pip: {reason}). {fix}")


def install_tools(command):
    """Install, once, what only this command needs."""
    for name in TOOLS.get(command, ()):
        requirements, stamp = HERE / name, VENV / f"workshop-{name}"
        if not stamp.exists() or stamp.read_bytes() != requirements.read_bytes():
            say(f"Installing {name} (once) ...")
            install(requirements)
            stamp.write_bytes(requirements.read_bytes())


def hand_over(arguments):
    """Become the command, or nox for `test`, in .venv's Python; Windows cannot, so there wait for it."""
    module = ["workshop_lib", *arguments]
    if arguments[0] == "test":
        names = ["-s", *arguments[1:]] if arguments[1:] and arguments[1][0] != "-" else arguments[1:]
        module = ["nox", "-f", str(HERE / "tests" / "noxfile.py"), *names]
    command = [str(PYTHON), "-P", "-m", *module]
    if arguments[0] == "reference":
        command = [str(PYTHON), str(HERE / "tools" / "reference.py"), *arguments[1:]]
    environment = dict(os.environ, PYTHONUTF8="1")
    if os.name != "nt":
        os.execve(command[0], command, environment)
    process = subprocess.Popen(command, env=environment)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the child, which ends its way
    return process.wait()


def say(text):
    """Write a line to standard error; standard output belongs to the command."""
    print(text, file=sys.stderr, flush=True)


def main(arguments):
    """Run the command and return its exit code."""
    if not (3, 11) <= sys.version_info < (3, 15):
        say("workshop.py: This is Python {}.{}. Use 3.11 to 3.14.".format(*sys.version_info))
        return 2
    if not arguments or arguments[0] in ("-h", "--help"):
        print(__doc__)
        return 0 if arguments else 2
    if arguments[0] not in COMMANDS:
        say(f"workshop.py: There is no command '{arguments[0]}'. Use {', '.join(COMMANDS)}.")
        return 2
    try:
        stamp = wanted_stamp()
        if not is_ready(stamp):
            make_environment(stamp)
        install_tools(arguments[0])
        return hand_over(arguments)
    except (SetupError, OSError) as error:
        say(f"workshop.py: {error}")
        return 1
    except KeyboardInterrupt:
        say("workshop.py: Stopped.")
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
