"""The names of threats: ten categories, each with its subcategories and what they are called elsewhere.

A threat is written ``category.subcategory`` (``prompt_injection.instruction_override``). Packs, findings, policies,
metrics and the console all use these names, so a new one is added here first and nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Category:
    """One category: a title for people, its subcategories, and the ids that the field's catalogues give it.

    ``owasp`` names entries of the OWASP Top 10 for LLM Applications 2025; ``atlas`` names MITRE ATLAS techniques.
    ``attack`` is false for categories that hold *values* (secrets, personal data), which are no sign of an attack.
    """

    title: str
    owasp: tuple[str, ...]
    atlas: tuple[str, ...]
    attack: bool
    subcategories: tuple[str, ...]


CATEGORIES: dict[str, Category] = {
    "prompt_injection": Category(
        "Prompt injection", ("LLM01",), ("AML.T0051", "AML.T0051.000", "AML.T0051.001"), True,
        ("instruction_override", "context_reset", "fake_system_message", "fake_conversation", "delimiter_escape",
         "task_hijack", "planted_instruction", "hidden_text", "output_forcing", "authority_claim",
         "conditional_trigger", "persistence", "refusal_suppression"),
    ),
    "jailbreak": Category(
        "Jailbreak", ("LLM01",), ("AML.T0054",), True,
        ("persona", "developer_mode", "fiction_frame", "opposite_day", "privilege_claim", "safety_disable",
         "coercion_game", "hypothetical_frame", "token_reward", "dual_response", "emotional_pressure",
         "research_pretext", "many_shot", "crescendo"),
    ),
    "prompt_extraction": Category(
        "Prompt extraction", ("LLM07",), ("AML.T0056", "AML.T0057"), True,
        ("direct_request", "repeat_above", "translate_or_encode", "summarise_rules", "completion_bait",
         "debug_pretext", "tool_schema_probe", "secret_probe", "canary_leak"),
    ),
    "agent_abuse": Category(
        "Tool and agent abuse", ("LLM06", "LLM01"), ("AML.T0053", "AML.T0051.001"), True,
        ("unauthorised_action", "tool_coercion", "confirmation_bypass", "tool_poisoning", "memory_poisoning",
         "credential_access", "financial_action", "messaging_action", "file_system_action", "browser_action",
         "cross_agent_relay", "goal_replacement", "mcp_shadowing"),
    ),
    "data_exfiltration": Category(
        "Data exfiltration", ("LLM02", "LLM05"), ("AML.T0024", "AML.T0057"), True,
        ("markdown_image", "link_with_data", "html_beacon", "send_to_address", "encoded_payload", "dns_tunnel",
         "webhook_collector", "conversation_dump", "css_beacon"),
    ),
    "obfuscation": Category(
        "Encodings and smuggling", ("LLM01",), ("AML.T0054", "AML.T0015"), True,
        ("invisible_text", "tag_smuggling", "variation_selector_smuggling", "bidi_control", "homoglyph",
         "base64_payload", "hex_payload", "escape_payload", "cipher_payload", "leetspeak", "spaced_letters",
         "split_payload", "zalgo", "decode_and_run", "token_smuggling", "reversed_text"),
    ),
    "harmful_code": Category(
        "Harmful code", ("LLM05",), ("AML.T0050", "AML.T0053"), True,
        ("reverse_shell", "destructive_command", "download_and_run", "credential_theft", "sql_injection",
         "cross_site_scripting", "template_injection", "path_traversal", "privilege_escalation",
         "persistence_mechanism", "obfuscated_script", "malware_request", "server_side_request_forgery",
         "unsafe_deserialisation", "crypto_mining", "security_tool_disable"),
    ),
    "resource_abuse": Category(
        "Resource abuse", ("LLM10",), ("AML.T0029", "AML.T0034"), True,
        ("endless_output", "repetition_attack", "recursive_expansion", "token_flood", "glitch_token"),
    ),
    "secret": Category(
        "Secrets", ("LLM02",), ("AML.T0055",), False,
        ("cloud_key", "ai_provider_key", "source_control_token", "chat_token", "payment_key", "private_key",
         "database_url", "package_registry_token", "ci_token", "monitoring_key", "email_service_key",
         "web_token", "infrastructure_token", "generic_credential", "cryptocurrency_key", "saas_token"),
    ),
    "pii": Category(
        "Personal data", ("LLM02",), ("AML.T0057",), False,
        ("payment", "bank", "national", "health", "contact_email", "contact_phone", "contact_address", "network",
         "birth_date", "travel_document", "driver_licence", "tax", "vehicle", "name"),
    ),
}


def split(threat: str) -> tuple[str, str]:
    """Split ``category.subcategory`` and check both.

    Raises:
        ValueError: the category or the subcategory is not in the taxonomy; the message lists what is.
    """
    category, _, subcategory = threat.partition(".")
    known = CATEGORIES.get(category)
    if known is None:
        raise ValueError(f"unknown category {category!r}; known: {', '.join(CATEGORIES)}")
    if subcategory not in known.subcategories:
        raise ValueError(
            f"unknown subcategory {subcategory!r} of {category}; known: {', '.join(known.subcategories)}"
        )
    return category, subcategory


def attack_category(name: str) -> str:
    """Check that ``name`` is a category of attacks, without a subcategory; returns it.

    Raises:
        ValueError: it is none; the message lists them.
    """
    if name in CATEGORIES and CATEGORIES[name].attack:
        return name
    known = (known for known, category in CATEGORIES.items() if category.attack)
    raise ValueError(f"{name!r} is no category of attacks; known: {', '.join(known)}")


def is_attack(threat: str) -> bool:
    """True where a finding of this threat speaks for an attack, false where it marks a value to protect."""
    return CATEGORIES[threat.partition(".")[0]].attack
