"""What the suite installs and compiles for itself, once, into a folder in the user's cache."""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

NODE_PACKAGES = ["ws@8.23.0", "zod@4.6.7"]
BUN_PACKAGES = ["bun@1.4.5", "zod@4.6.7"]
RPCKIT_PACKAGES = ["fastapi-rpckit==0.4.1", "uvicorn==0.54.0", "uvloop==0.23.0", "httptools", "websockets==17.4"]


class NotAvailable(RuntimeError):
    """What this machine cannot run; the text is what its row shows."""


def cache_folder() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "socketsundso-benchmarks"


def node_modules() -> Path:
    return cache_folder() / "node_modules"


def node() -> str:
    """Node, with its packages. Raises NotAvailable."""
    program = shutil.which("node")
    if program is None or shutil.which("npm") is None:
        raise NotAvailable("node not found")
    _npm_install(NODE_PACKAGES)
    return program


def bun() -> str:
    """Bun, a package of npm itself, with its packages. Raises NotAvailable."""
    if shutil.which("npm") is None:
        raise NotAvailable("bun not found: npm, which installs it, is not there")
    _npm_install(BUN_PACKAGES)
    return str(node_modules() / ".bin" / "bun")


def rpckit_python() -> str:
    """A Python of 3.12 or newer, with fastapi-rpckit in an environment of its own. Raises NotAvailable."""
    environment = cache_folder() / "rpckit-0.4.1"
    python = environment / "bin" / "python"
    if not (environment / "complete").exists():
        found = newer_python()
        patient = {**os.environ, "PYTHONWARNINGS": "default"}  # tests have errors of them, and an older pip gives some
        for command in ([found, "-m", "venv", environment], [python, "-m", "pip", "install", "-q", *RPCKIT_PACKAGES]):
            if subprocess.run(command, env=patient, capture_output=True, check=False, timeout=300).returncode:
                raise NotAvailable("fastapi-rpckit could not be installed")
        (environment / "complete").touch()
    return str(python)


def newer_python() -> str:
    """Raises NotAvailable where there is no Python of 3.12 or newer that runs."""
    if sys.version_info >= (3, 12):
        return sys.executable
    names = [f"3.{minor}" for minor in (12, 13, 14)]
    versions = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    for python in [
        *filter(None, (shutil.which(f"python{name}") for name in names)),
        *(path for name in names for path in sorted(versions.glob(f"{name}.*/bin/python"))),
    ]:
        if not subprocess.run([python, "-c", "import ssl"], capture_output=True, check=False).returncode:
            return str(python)
    raise NotAvailable("not found: Python 3.12 or newer")


def _npm_install(packages: list[str]) -> None:
    """At pinned versions, beside those that are there."""
    names = [package.partition("@")[0] for package in packages]
    if all((node_modules() / name).is_dir() for name in names):
        return
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    every = sorted({*NODE_PACKAGES, *packages})
    command = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(folder), *every]
    if subprocess.run(command, capture_output=True, check=False, timeout=120).returncode:
        raise NotAvailable(f"npm could not install {' and '.join(names)}")


@functools.cache
def compiled(name: str) -> Path:
    """The shared library of this C source beside this module. Raises NotAvailable where nothing compiles it."""
    source = Path(__file__).with_name(name)
    library = cache_folder() / f"{source.stem}-{hashlib.sha256(source.read_bytes()).hexdigest()[:16]}.so"
    if not library.exists():
        compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
        if compiler is None:
            raise NotAvailable("no C compiler found")
        library.parent.mkdir(parents=True, exist_ok=True)
        unfinished = library.with_suffix(f".{os.getpid()}")  # two runs may compile it at the same time
        command = [compiler, "-O2", "-shared", "-fPIC", "-o", str(unfinished), str(source), "-ldl"]
        if subprocess.run(command, capture_output=True, check=False, timeout=120).returncode:
            raise NotAvailable(f"{Path(compiler).name} could not compile {name}")
        unfinished.rename(library)
    return library
