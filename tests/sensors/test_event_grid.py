"""Reading Azure Event Grid's messages: both schemas, all types, names, and hostile text that is never raised."""

import base64
import json
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sensors.adapters.event_grid import Container, read_event_grid
from sensors.adapters.notice_reading import Message, Told
from sensors.adapters.objects import Hint
from tests.sensors.test_s3_notices import JSON, check, paths_of, replaced

HERE = Container("acct", "raw")
TOPIC = "/subscriptions/s/resourceGroups/Storage/providers/Microsoft.Storage/storageAccounts/acct"
MOMENT = "2026-01-31T06:00:00.9584103Z"
MICROS = 1_769_839_200_958_410
ORDER = "00000000000004420000000000028963"


def url(path: str, *, host: str = "acct.dfs.core.windows.net", container: str = "raw") -> str:
    return f"https://{host}/{container}/{quote(path)}"


def event(kind: str = "BlobCreated", path: str = "in/a.csv", *, cloud: bool = False, **data: Any) -> dict[str, Any]:
    """Return an event of either schema; `data` replaces fields of its data, None removes one."""
    inner: dict[str, Any] = {
        "api": "FlushWithClose",
        "clientRequestId": "6d79dbfb-0e37-4fc4-981f-442c9ca65760",
        "requestId": "831e1650-001e-001b-66ab-eeb76e000000",
        "eTag": '"0x8D4BCC2E4835CD0"',
        "contentType": "text/plain",
        "contentLength": 524288,
        "contentOffset": 0,
        "blobType": "BlockBlob",
        "url": url(path),
        "sequencer": ORDER,
        "storageDiagnostics": {"batchId": "b68529f3-68cd-4744-baa4-3c0498ec19f0"},
        **data,
    }
    inner = {name: value for name, value in inner.items() if value is not None}
    subject = f"/blobServices/default/containers/raw/blobs/{path}"
    if cloud:
        return {
            "source": TOPIC,
            "subject": subject,
            "type": f"Microsoft.Storage.{kind}",
            "time": MOMENT,
            "id": "831e1650-001e-001b-66ab-eeb76e069631",
            "data": inner,
            "specversion": "1.0",
        }
    return {
        "topic": TOPIC,
        "subject": subject,
        "eventType": f"Microsoft.Storage.{kind}",
        "eventTime": MOMENT,
        "id": "831e1650-001e-001b-66ab-eeb76e069631",
        "data": inner,
        "dataVersion": "2",
        "metadataVersion": "1",
    }


def renamed(kind: str, old: str, new: str, **data: Any) -> dict[str, Any]:
    api = "RenameDirectory" if kind.startswith("Dir") else "RenameFile"
    ends = {"sourceUrl": url(old), "destinationUrl": url(new)}
    return event(kind, new, **{"api": api, "url": None, **ends, **data})


def read(body: str, container: Container = HERE) -> Told:
    return read_event_grid(Message("landing-events/m-1", body, {"dequeue_count": "3"}), container)


def hints(document: Any) -> list[Hint]:
    """Return the hints of a message that has nothing wrong with it."""
    told = read(json.dumps(document))
    assert told.dead is None, told.dead
    return list(told.hints)


def plain(text: str) -> str:
    return text


def in_base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def broken_lines(text: str) -> str:
    return base64.encodebytes(text.encode()).decode()


@pytest.mark.parametrize("encode", [plain, in_base64, broken_lines])
@pytest.mark.parametrize("listed", [True, False])
@pytest.mark.parametrize("cloud", [True, False])
def test_both_schemas_are_read(cloud: bool, listed: bool, encode: Any) -> None:
    """An event of either schema, alone or in a list, plain or in base64, is the same hint."""
    document = event(cloud=cloud)
    told = read(encode(json.dumps([document] if listed else document)))
    assert told == Told([Hint("in/a.csv", "written", sequencer=ORDER, time=MICROS)])


@pytest.mark.parametrize("api", ["PutBlob", "PutBlockList", "FlushWithClose", "CopyBlob", "SftpCommit"])
def test_calls_that_complete_a_blob_are_hints(api: str) -> None:
    """A blob counts as written when the call that is told of completes it."""
    assert [hint.what for hint in hints(event(api=api))] == ["written"]


@pytest.mark.parametrize("api", ["CreateFile", "SftpCreate", "AppendFile", "FlushFile"])
def test_calls_that_leave_a_blob_incomplete_are_none(api: str) -> None:
    """The event of an empty file that is still to be filled tells nothing."""
    assert hints(event(api=api, contentLength=0)) == []


@pytest.mark.parametrize("api", ["DeleteBlob", "DeleteFile", "SftpRemove"])
def test_a_deleted_blob_is_looked_for(api: str) -> None:
    """A deletion is a hint to look whether the blob is gone."""
    assert hints(event("BlobDeleted", api=api)) == [Hint("in/a.csv", "removed", sequencer=ORDER, time=MICROS)]


def test_a_renamed_blob_tells_both_names() -> None:
    """A renaming tells what the blob is called and what it was called."""
    assert hints(renamed("BlobRenamed", "_temporary/0/a b.csv", "in/ü+%.csv")) == [
        Hint("in/ü+%.csv", "renamed", "_temporary/0/a b.csv", ORDER, MICROS)
    ]


@pytest.mark.parametrize("slash", ["", "/"])
def test_a_renamed_folder_is_a_subtree(slash: str) -> None:
    """One event stands for all that is in a folder, so the folder is to be listed."""
    assert hints(renamed("DirectoryRenamed", f"stage/day 1{slash}", f"in/day 1{slash}")) == [
        Hint("in/day 1/", "subtree", "stage/day 1/", ORDER, MICROS)
    ]


@pytest.mark.parametrize("recursive", ["true", True, None])
def test_a_deleted_folder_is_a_subtree(recursive: Any) -> None:
    """The listing of a deleted folder shows what is gone."""
    found = hints(event("DirectoryDeleted", "in/day", api="DeleteDirectory", recursive=recursive))
    assert found == [Hint("in/day/", "subtree", "", ORDER, MICROS)]


@pytest.mark.parametrize(
    "kind",
    [
        "DirectoryCreated",
        "BlobTierChanged",
        "AsyncOperationInitiated",
        "BlobInventoryPolicyCompleted",
        "LifecyclePolicyCompleted",
        "StorageTaskCompleted",
        "SomethingNew",
    ],
)
def test_other_events_of_storage_tell_nothing(kind: str) -> None:
    """What changes neither the content nor the presence of a blob has no hints."""
    assert hints(event(kind)) == []


def test_the_handshake_tells_nothing() -> None:
    """Event Grid's own validation event is no event of storage, and nothing is wrong with it."""
    handshake = {"eventType": "Microsoft.EventGrid.SubscriptionValidationEvent", "data": {"validationCode": "1"}}
    assert hints([handshake]) == []


@pytest.mark.parametrize(
    ("to", "old", "expected"),
    [
        (url("in/a"), url("in/a", container="other"), [Hint("in/a", "written", "", ORDER, MICROS)]),
        (url("in/a"), None, [Hint("in/a", "written", "", ORDER, MICROS)]),
        (None, url("in/b"), [Hint("in/a", "written", "", ORDER, MICROS)]),
    ],
)
def test_a_blob_renamed_from_elsewhere_is_written(to: str | None, old: str | None, expected: list[Hint]) -> None:
    """A blob that came from another file system, or from nobody says where, is new here."""
    (found,) = hints(renamed("BlobRenamed", "in/b", "in/a", destinationUrl=to, sourceUrl=old))
    if to is None:  # the subject tells the new name
        expected = [Hint("in/a", "renamed", "in/b", ORDER, MICROS)]
    assert [found] == expected


def test_a_blob_renamed_to_elsewhere_is_gone() -> None:
    """A blob or folder that left for another file system is looked for where it was."""
    for kind, hint in (
        ("BlobRenamed", Hint("in/b", "removed", "", ORDER, MICROS)),
        ("DirectoryRenamed", Hint("in/b/", "subtree", "", ORDER, MICROS)),
    ):
        document = renamed(kind, "in/b", "x", destinationUrl=url("x", container="other"))
        document["subject"] = "/blobServices/default/containers/other/blobs/x"
        assert hints(document) == [hint]


@pytest.mark.parametrize(
    "address",
    [
        "https://acct.blob.core.windows.net/raw/in/a.csv",
        "https://acct.dfs.core.windows.net/raw/in/a.csv",
        "https://acct.z12.blob.storage.azure.net/raw/in/a.csv",
        "https://ACCT.blob.core.usgovcloudapi.net:443/raw/in/a.csv",
        "http://127.0.0.1:10000/acct/raw/in/a.csv",
        "http://localhost:10000/acct/raw/in/a.csv",
        "https://files.example.com/raw/in/a.csv",
    ],
)
def test_urls_of_all_kinds_name_the_blob(address: str) -> None:
    """Without subject and topic the URL alone says which blob of which container it is."""
    document = event(url=address)
    del document["subject"], document["topic"]
    assert [hint.key for hint in hints(document)] == ["in/a.csv"]


def test_a_subject_alone_names_the_blob() -> None:
    """Without a URL the subject says which blob it is, as it stands."""
    assert [hint.key for hint in hints(event(path="in/100%.csv", url=None))] == ["in/100%.csv"]


def test_the_root_container_has_no_folder_in_its_urls() -> None:
    """A blob of the root container is named by the subject, since its URL names no container."""
    document = event(url="https://acct.blob.core.windows.net/a.csv")
    document["subject"] = "/blobServices/default/containers/$root/blobs/a.csv"
    told = read(json.dumps(document), Container("acct", "$root"))
    assert (told.dead, [hint.key for hint in told.hints]) == (None, ["a.csv"])


@pytest.mark.parametrize(
    ("subject", "path", "keys"),
    [
        ("a b.csv", "a%20b.csv", ["a b.csv"]),
        ("a%20b.csv", "a%20b.csv", ["a b.csv", "a%20b.csv"]),
        ("50%.csv", "50%.csv", ["50%.csv"]),
        ("what?.csv", "what?.csv", ["what", "what?.csv"]),
        ("log_\ufffd\ufffd.csv", "log_%F0%9F%90%8B.csv", ["log_🐋.csv"]),
        ("log_\ufffd\ufffd.csv", "%FF", ["log_\ufffd\ufffd.csv"]),
    ],
)
def test_names_that_can_be_read_in_two_ways_are_both_looked_at(subject: str, path: str, keys: list[str]) -> None:
    """Where URL and subject leave room for doubt, each reading is a hint; what lost characters counts last."""
    document = event(path=subject, url=f"https://acct.dfs.core.windows.net/raw/{path}")
    assert [hint.key for hint in hints(document)] == keys


def test_a_renaming_with_plain_urls_reads_both_ends_alike() -> None:
    """When the new name stands unencoded in its URL, the old one is read unencoded as well."""
    document = renamed("BlobRenamed", "", "", sourceUrl="https://h/raw/a%20b", destinationUrl="https://h/raw/c%20d")
    document["subject"] = "/blobServices/default/containers/raw/blobs/c%20d"
    assert [(hint.key, hint.old_key) for hint in hints(document)] == [("c d", "a b"), ("c%20d", "a%20b")]


@given(st.text(st.characters(exclude_characters="\0\ufffd", exclude_categories=["Cs"]), min_size=1, max_size=200))
def test_every_name_survives(name: str) -> None:
    """A name reads the same by an encoded URL and a plain subject, in either schema."""
    for cloud in (True, False):
        assert [hint.key for hint in hints(event(path=name, cloud=cloud))] == [name]


@pytest.mark.parametrize(
    ("document", "reason", "words"),
    [
        ({}, "unreadable_notice", "no type"),
        ([], "unreadable_notice", "empty list"),
        ([7], "unreadable_notice", "int"),
        ("text", "unreadable_notice", "str"),
        ({**event(cloud=True), "specversion": "2.0"}, "unknown_version", "'2.0'"),
        ({**event(), "eventType": "Microsoft.Resources.ResourceWriteSuccess"}, "foreign_notice", "not storage's"),
        ({**event(), "eventType": None}, "unreadable_notice", "no type"),
        ({**event(), "data": None}, "unreadable_notice", "`data`"),
        (event(api=None), "unreadable_notice", "data.api"),
        ({**event(url=None), "subject": "elsewhere"}, "unreadable_notice", "container"),
        ({**event(url="https://x/"), "subject": ""}, "unreadable_notice", "container"),
        ({**event(), "subject": "/blobServices/default/containers/other/blobs/a"}, "foreign_notice", "'other'"),
        ({**event(), "topic": TOPIC.replace("acct", "strange")}, "foreign_notice", "'strange'"),
        (
            {**event(url=url("a", host="strange.blob.core.windows.net")), "topic": ""},
            "foreign_notice",
            "'strange'",
        ),
        (event(path="a\0b"), "unreadable_name", "NUL"),
        (event(path="x" * 1025), "unreadable_name", "1024"),
        ({**event(url=url("")), "subject": ""}, "unreadable_name", "empty"),
        (renamed("BlobRenamed", "a\0", "b"), "unreadable_name", "NUL"),
        (
            {**renamed("BlobRenamed", "", "", sourceUrl=7, destinationUrl=8), "subject": ""},
            "unreadable_notice",
            "container",
        ),
    ],
)
def test_what_cannot_be_read_is_a_dead_letter(document: Any, reason: str, words: str) -> None:
    """A message that tells nothing we can read gives no hint and says why, where, and what it was."""
    body = json.dumps(document)
    told = read(body)
    assert told.hints == []
    assert told.dead is not None
    assert (told.dead.reason, told.dead.position.partition("#")[0]) == (reason, "landing-events/m-1")
    assert words in told.dead.detail
    assert (told.dead.payload, told.dead.attributes) == (body.encode(), {"dequeue_count": "3"})


@pytest.mark.parametrize("body", ["", "hello", "{", "=", "aGVsbG8=", "/////w==", "{" * 5000, "\ud800"])
def test_text_that_is_no_json_is_a_dead_letter(body: str) -> None:
    """Neither plain text nor base64 of something else is lost."""
    told = read(body)
    assert told.dead is not None
    assert (told.hints, told.dead.reason) == ([], "unreadable_notice")


def test_sound_events_of_a_list_are_told_beside_broken_ones() -> None:
    """One message gives the hints of its sound events and one dead letter that names every broken one."""
    told = read(json.dumps([event(path="a"), {}, event(path="b"), event(path="c", api=None)]))
    assert told.dead is not None
    assert [hint.key for hint in told.hints] == ["a", "b"]
    assert told.dead.position == "landing-events/m-1#[1]"
    assert "[3]: " in told.dead.detail


def test_the_account_is_compared_only_where_both_are_known() -> None:
    """A sensor that knows no account takes what the queue gives; accounts compare without case."""
    assert read(json.dumps(event()), Container("", "raw")).dead is None
    assert read(json.dumps(event()), Container("ACCT", "raw")).dead is None


DOCUMENTS = [
    event(),
    event(cloud=True),
    [event(), event("BlobDeleted")],
    renamed("BlobRenamed", "a", "b"),
    renamed("DirectoryRenamed", "a", "b"),
    event("DirectoryDeleted"),
]


@given(st.data(), st.sampled_from(DOCUMENTS), JSON | st.just("https://acct.dfs.core.windows.net/raw/%ED%A0%80"))
def test_no_document_gets_an_exception_out(data: st.DataObject, document: Any, junk: Any) -> None:
    """Whatever stands in the place of any field, there are hints with sound keys, a dead letter, or nothing."""
    path = data.draw(st.sampled_from(paths_of(document)))
    check(read(json.dumps(replaced(document, path, junk))))


@given(st.text() | st.text(st.characters()) | st.binary().map(lambda raw: base64.b64encode(raw).decode()))
@example("\ufeff[]")
@example("[" * 100_000)
def test_no_text_gets_an_exception_out(body: str) -> None:
    """No text at all raises."""
    check(read(body))
