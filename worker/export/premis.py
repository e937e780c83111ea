"""PREMIS 3 as XML: files, events and agents in, the bytes of one valid document out.

Every document is checked before it leaves, against `premis-subset.xsd`: our own schema of the part
of PREMIS that we write. It is stricter than the Library of Congress's: nothing may refer to what
isn't in the document, and no event is without outcome, agent and file. Terms and their addresses
are those of https://id.loc.gov/vocabulary/preservation.html.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files as resources

from lxml import etree

from worker.xmp import xml_text

NAMESPACE = "http://www.loc.gov/premis/v3"
_LOCATION = "http://www.loc.gov/standards/premis/v3/premis.xsd"
_XSI = "http://www.w3.org/2001/XMLSchema-instance"
_VOCABULARY = "http://id.loc.gov/vocabulary/preservation"
_IDENTIFIER = "gpen-archive"

Element = etree._Element


@dataclass(frozen=True, slots=True)
class Term:
    """A word of a vocabulary; without a scheme it is our own."""

    label: str
    scheme: str | None = None
    code: str | None = None


CREATION = Term("creation", "eventType", "cre")
DIGEST = Term("message digest calculation", "eventType", "mes")
FIXITY_CHECK = Term("fixity check", "eventType", "fix")
SUCCESS = Term("success", "eventOutcome", "suc")
WARNING = Term("warning", "eventOutcome", "war")
FAILURE = Term("fail", "eventOutcome", "fai")
EXECUTING_PROGRAM = Term("executing program", "eventRelatedAgentRole", "exe")
MODEL = Term("model")
SOURCE = Term("source", "eventRelatedObjectRole", "sou")
OUTCOME = Term("outcome", "eventRelatedObjectRole", "out")
DERIVATION = Term("derivation", "relationshipType", "der")
HAS_SOURCE = Term("has Source", "relationshipSubType", "hss")
REFERENCE = Term("reference", "relationshipType", "ref")
DOCUMENTED_IN = Term("is Documented In", "relationshipSubType", "idc")
_SHA256 = Term("SHA-256", "cryptographicHashFunctions", "sha256")
_SPECIFICATION = Term("specification", "formatRegistryRole", "spe")
_SOFTWARE = Term("software", "agentType", "sof")


@dataclass(frozen=True, slots=True)
class Agent:
    """A program, or the model that it runs."""

    identifier: str
    name: str
    version: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Relation:
    """How a file came to be, or where more is said of it."""

    kind: Term
    sub_kind: Term
    file: str
    event: str | None = None
    """Identifiers, both."""


@dataclass(frozen=True, slots=True)
class Creator:
    """The program that made a file."""

    name: str
    version: str
    moment: str


@dataclass(frozen=True, slots=True)
class File:
    """A file; what isn't known of it is None."""

    identifier: str
    name: str
    places: tuple[tuple[str, str], ...]
    """Where it is: what kind of address, and the address."""
    sha256: str | None = None
    size_bytes: int | None = None
    format: str = "unknown"
    puid: str | None = None
    """What PRONOM calls the format."""
    creator: Creator | None = None
    relations: tuple[Relation, ...] = ()


@dataclass(frozen=True, slots=True)
class Event:
    """Something that was done to files, or failed."""

    identifier: str
    kind: Term
    moment: str
    """ISO 8601, with its offset from UTC."""
    detail: str
    outcome: Term
    agents: tuple[tuple[Agent, Term], ...]
    files: tuple[tuple[File, Term | None], ...]
    notes: tuple[str, ...] = ()


def document(events: Sequence[Event], files: Sequence[File]) -> bytes:
    """Return the document that tells of `events`, their agents, and `files`.

    Raises:
        lxml.etree.DocumentInvalid: a fault of this program.
    """
    agents = {agent.identifier: agent for event in events for agent, _ in event.agents}
    root = _make(
        "premis",
        *(_file(file, events) for file in files),
        *map(_event, events),
        *map(_agent, agents.values()),
    )
    root.set("version", "3.0")
    root.set(f"{{{_XSI}}}schemaLocation", f"{NAMESPACE} {_LOCATION}")
    _schema().assertValid(root)
    return etree.tostring(root, xml_declaration=True, encoding="UTF-8", pretty_print=True)


@cache
def _schema() -> etree.XMLSchema:
    text = resources("worker.export").joinpath("premis-subset.xsd").read_bytes()
    return etree.XMLSchema(etree.fromstring(text))


def _file(file: File, events: Iterable[Event]) -> Element:
    told = [event for event in events if any(one is file for one, _ in event.files)]
    element = _make(
        "object",
        _identifier("object", file.identifier),
        _characteristics(file),
        _text("originalName", file.name),
        *(
            _make(
                "storage",
                _make(
                    "contentLocation",
                    _text("contentLocationType", kind),
                    _text("contentLocationValue", place),
                ),
            )
            for kind, place in file.places
        ),
        *map(_relationship, file.relations),
        *(_identifier("linkingEvent", event.identifier) for event in told),
    )
    element.set(f"{{{_XSI}}}type", "premis:file")
    return element


def _characteristics(file: File) -> Element:
    element = _make("objectCharacteristics")
    if file.sha256 is not None:
        element.append(_text("compositionLevel", "0"))
        element.append(
            _make(
                "fixity",
                _term("messageDigestAlgorithm", _SHA256),
                _text("messageDigest", file.sha256),
            )
        )
    if file.size_bytes is not None:
        element.append(_text("size", str(file.size_bytes)))
    element.append(_format(file))
    if file.creator is not None:
        element.append(
            _make(
                "creatingApplication",
                _text("creatingApplicationName", file.creator.name),
                _text("creatingApplicationVersion", file.creator.version),
                _text("dateCreatedByApplication", file.creator.moment),
            )
        )
    return element


def _format(file: File) -> Element:
    element = _make("format", _make("formatDesignation", _text("formatName", file.format)))
    if file.puid is not None:
        element.append(
            _make(
                "formatRegistry",
                _text("formatRegistryName", "PRONOM"),
                _text("formatRegistryKey", file.puid),
                _term("formatRegistryRole", _SPECIFICATION),
            )
        )
    return element


def _relationship(relation: Relation) -> Element:
    element = _make(
        "relationship",
        _term("relationshipType", relation.kind),
        _term("relationshipSubType", relation.sub_kind),
        _identifier("relatedObject", relation.file),
    )
    if relation.event is not None:
        element.append(_identifier("relatedEvent", relation.event))
    return element


def _event(event: Event) -> Element:
    return _make(
        "event",
        _identifier("event", event.identifier),
        _term("eventType", event.kind),
        _text("eventDateTime", event.moment),
        _make("eventDetailInformation", _text("eventDetail", event.detail)),
        _make(
            "eventOutcomeInformation",
            _term("eventOutcome", event.outcome),
            *(
                _make("eventOutcomeDetail", _text("eventOutcomeDetailNote", note))
                for note in event.notes
            ),
        ),
        *(_identifier("linkingAgent", agent.identifier, role) for agent, role in event.agents),
        *(_identifier("linkingObject", file.identifier, role) for file, role in event.files),
    )


def _agent(agent: Agent) -> Element:
    element = _make(
        "agent",
        _identifier("agent", agent.identifier),
        _text("agentName", agent.name),
        _term("agentType", _SOFTWARE),
    )
    if agent.version is not None:
        element.append(_text("agentVersion", agent.version))
    element.extend([_text("agentNote", note) for note in agent.notes])
    return element


def _identifier(of: str, value: str, role: Term | None = None) -> Element:
    element = _make(
        f"{of}Identifier",
        _text(f"{of}IdentifierType", _IDENTIFIER),
        _text(f"{of}IdentifierValue", value),
    )
    if role is not None:
        element.append(_term(f"{of}Role", role))
    return element


def _term(name: str, term: Term) -> Element:
    element = _text(name, term.label)
    if term.scheme is not None:
        element.set("authority", term.scheme)
        element.set("authorityURI", f"{_VOCABULARY}/{term.scheme}")
        element.set("valueURI", f"{_VOCABULARY}/{term.scheme}/{term.code}")
    return element


def _text(name: str, text: str) -> Element:
    element = _make(name)
    element.text = xml_text(text)
    return element


def _make(name: str, *children: Element) -> Element:
    element = etree.Element(f"{{{NAMESPACE}}}{name}", nsmap={"premis": NAMESPACE, "xsi": _XSI})
    element.extend(children)
    return element
