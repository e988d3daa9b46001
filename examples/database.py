"""
A database session for each message: any number of sockets on a pool of two connections.

Needs fastapi, sqlalchemy and aiosqlite; run `python -m examples.database`. The notes are in a file that goes with the
process; NOTES_DATABASE names another one.
"""

import os
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

import uvicorn
from pydantic import BaseModel, ConfigDict, Field

from socketsundso import Depends, Endpoint, EventError, event

try:
    from fastapi import FastAPI
    from sqlalchemy import func, select
    from sqlalchemy.exc import IntegrityError
    from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
    from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
except ImportError:
    needs = (
        "examples.database needs FastAPI and SQLAlchemy, which socketsundso does not: "
        "python -m pip install fastapi 'sqlalchemy[asyncio]' aiosqlite"
    )
    raise SystemExit(needs) from None

folder = tempfile.TemporaryDirectory()
path = os.environ.get("NOTES_DATABASE", str(Path(folder.name) / "notes.sqlite"))
engine = create_async_engine(f"sqlite+aiosqlite:///{path}", pool_size=2, max_overflow=0, connect_args={"timeout": 30})
sessions = async_sessionmaker(engine, expire_on_commit=False)


class Base(DeclarativeBase): ...


class Note(Base):
    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(unique=True)
    text: Mapped[str]


async def open_session() -> AsyncIterator[AsyncSession]:
    """Commits where the handler returns, and rolls back where it raises."""
    async with sessions.begin() as session:
        yield session


# Committed before the reply is sent, so that "added" is never said of what is not there.
Session = Annotated[AsyncSession, Depends(open_session, scope="function")]


class Repository:
    """What the application asks of its database. One for each message, as its session is."""

    def __init__(self, session: Session) -> None:
        self.session = session

    async def add(self, title: str, text: str) -> Note:
        note = Note(title=title, text=text)
        self.session.add(note)
        try:
            await self.session.flush()
        except IntegrityError:
            raise EventError("taken", f"there is a note {title!r} already") from None
        return note

    async def newest(self, limit: int) -> Sequence[Note]:
        return (await self.session.scalars(select(Note).order_by(Note.id.desc()).limit(limit))).all()

    async def count(self) -> int:
        return (await self.session.scalars(select(func.count()).select_from(Note))).one()


Notes = Annotated[Repository, Depends(thread=False)]  # making one never blocks


class Added(BaseModel):
    model_config = ConfigDict(from_attributes=True)
    id: int
    title: str


class Listed(BaseModel):
    total: int
    notes: list[Added]


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    yield
    await engine.dispose()


app = FastAPI(lifespan=lifespan)


@app.websocket("/ws")
class Notebook(Endpoint):
    @event
    async def on_add(self, title: Annotated[str, Field(min_length=1, max_length=80)], text: str, notes: Notes) -> Added:
        return Added.model_validate(await notes.add(title, text))

    @event
    async def on_list(self, notes: Notes, limit: Annotated[int, Field(ge=1, le=100)] = 10) -> Listed:
        newest = [Added.model_validate(note) for note in await notes.newest(limit)]
        return Listed(total=await notes.count(), notes=newest)


@app.get("/pool")
async def pool() -> str:
    return engine.pool.status()


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]) if len(sys.argv) > 1 else 8000)
