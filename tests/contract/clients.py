"""Generated Python clients as modules."""

from __future__ import annotations

import itertools
import sys
from functools import cache
from types import CodeType, ModuleType

from socketsundso.contract.model import Api
from socketsundso.contract.python.client import Models, client_source, python
from socketsundso.contract.python.parts import imports_of, parts

_numbers = itertools.count()


def load(api: Api, models: Models = "msgspec", *, whole: bool = False) -> ModuleType:
    """
    The client of this API, as it would be imported. Piece by piece, so that every line of what clients have in common
    is known by its place in its module; or the whole file, as it is written.
    """
    module = ModuleType(f"generated_client_{next(_numbers)}")
    sys.modules[module.__name__] = module  # where annotations are looked up
    if whole:
        exec(compile(python(api, models), f"{module.__name__}.py", "exec"), module.__dict__)
        return module
    for code in (*_common(models), compile("\n".join(client_source(api, models)), "client", "exec")):
        exec(code, module.__dict__)
    return module


@cache
def _common(models: Models) -> tuple[CodeType, ...]:
    found = parts(models)
    imports = [
        f"from {module} import {name}" if module else f"import {name}" for module, name in imports_of(found, models)
    ]
    sources = [("\n".join(imports), "imports"), *(("\n".join(part.lines), str(part.path)) for part in found)]
    return tuple(compile(source, name, "exec") for source, name in sources)
