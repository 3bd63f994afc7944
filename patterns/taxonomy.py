"""The names of threats: ten categories of twenty subcategories each, what they mean, and what they are called elsewhere.

A threat is written ``category.subcategory`` (``prompt_injection.instruction_override``). Packs, findings, policies,
metrics and the console all use these names, so a new one is added here first and nowhere else. A name stands for good:
decisions and packs of others hold it. ``portcullis patterns taxonomy`` shows all of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import NamedTuple


class Threat(NamedTuple):
    """One subcategory: its name, how bad it is where it is real (`schema.Severity`), and what it is, in a line."""

    name: str
    severity: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Category:
    """One category: a title for people, its subcategories, and the ids that the field's catalogues give it.

    ``owasp`` names entries of the OWASP Top 10 for LLM Applications 2025; ``atlas`` names MITRE ATLAS techniques.
    ``attack`` is false for categories that hold *values* (secrets, personal data), which are no sign of an attack.
    The first subcategory stands for a finding of which no more than the category is known.
    """

    title: str
    owasp: tuple[str, ...]
    atlas: tuple[str, ...]
    attack: bool
    threats: tuple[Threat, ...]

    @property
    def subcategories(self) -> tuple[str, ...]:
        return tuple(threat.name for threat in self.threats)


def _read(lines: str) -> tuple[Threat, ...]:
    """Threats from lines of name, severity and meaning."""
    return tuple(Threat(*line.split(maxsplit=2)) for line in lines.strip().splitlines())


CATEGORIES: dict[str, Category] = {
    "prompt_injection": Category(
        "Prompt injection", ("LLM01",), ("AML.T0051", "AML.T0051.000", "AML.T0051.001"), True, _read("""
            instruction_override critical tells the model to ignore, forget or replace the instructions it was given
            context_reset high declares that the conversation so far is over and a new one begins
            fake_system_message critical text dressed as a message of the system, the operator or the platform
            fake_conversation high turns of a conversation that never took place, to be continued
            delimiter_escape high closes the quotes, tags or fences that hold it, to stand outside of them
            task_hijack high has a model that was given one task do another one
            planted_instruction critical an order in a document, page or message that the model only was to read
            hidden_text high an order that people do not see: tiny, white, off the page, in comments
            output_forcing medium dictates what the model has to answer, word for word or in form
            authority_claim high claims to speak for the developer, the provider or the law
            conditional_trigger high an order that waits for a word, a date or a user
            persistence high asks that an order hold for all that follows, or for other conversations
            refusal_suppression high forbids the model to refuse, to warn or to doubt
            instruction_priority high claims a rank for its own words above all others
            tool_result_injection critical an order in what a tool or an API returned
            retrieval_poisoning high text written so that a search finds it and a model obeys it
            code_comment_order high an order to coding agents in comments, docstrings or commit messages
            metadata_order medium an order in file names, titles, alternative texts or properties of a document
            multi_step_setup medium one order spread over messages or documents that are harmless each
            reviewer_bias high asks a model that grades, ranks or reviews for a kinder judgement
    """)),
    "jailbreak": Category("Jailbreak", ("LLM01",), ("AML.T0054",), True, _read("""
            persona high gives the model another identity that has no rules
            developer_mode high claims a mode for testing, debugging or maintenance in which nothing is refused
            fiction_frame medium wraps the forbidden in a story, a play or a poem
            opposite_day medium turns meanings around, so that refusing means complying
            privilege_claim high claims a clearance, a licence or an age that would allow it
            safety_disable critical tells the model that its filters, rules or ethics are switched off
            coercion_game medium a game with rules that force an answer
            hypothetical_frame medium asks only what one would do or say if it were allowed
            token_reward medium offers points, tips or lives for answering, and takes them for refusing
            dual_response high asks for two answers, one with and one without rules
            emotional_pressure medium begs, grieves or threatens until the model gives in
            research_pretext medium names science, teaching or safety work as the reason
            many_shot high many examples of answers that should have been refused, before the real question
            crescendo high small steps, each harmless, towards what would be refused at once
            translation_frame medium asks for the forbidden in, from or by way of another language
            simulation_frame high has the model act as a computer, terminal or simulator that knows no rules
            prefix_injection high demands a reply that begins with agreement
            policy_puppetry critical poses as a policy or configuration file that permits everything
            consent_claim medium says that all concerned have agreed, so that no rule applies
            moral_inversion medium argues that refusing is what does the harm
    """)),
    "prompt_extraction": Category("Prompt extraction", ("LLM07",), ("AML.T0056", "AML.T0057"), True, _read("""
            direct_request high asks for the system prompt or the instructions outright
            repeat_above high asks for the text above, before or at the beginning
            translate_or_encode high asks for the instructions in another language or encoding
            summarise_rules medium asks what the rules come to, in other words
            completion_bait medium begins a sentence of the instructions for the model to go on
            debug_pretext high asks for the configuration to debug, audit or document it
            tool_schema_probe medium asks for names, parameters or descriptions of the model's tools
            secret_probe critical asks for keys, passwords or words that the prompt holds
            canary_leak critical a reply that holds the mark planted in its system prompt
            format_conversion high asks for the instructions as a table, as JSON, as code or in verse
            rule_confirmation medium asks yes or no until the rules are known
            difference_probe medium asks what was changed in the instructions, or is missing from a version of them
            first_words high asks for the first words, the last line or the length of the prompt
            negative_probe medium asks what the model may not say or do, and by which words
            role_reversal medium has the model interview, instruct or describe itself
            memory_probe high asks for what is remembered of other users or sessions
            document_probe high asks for retrieved documents or the knowledge base as they stand
            model_identity_probe low asks which model, version or provider is behind a product that does not tell
            training_data_probe medium makes a model recite what it was trained on
            example_leak medium asks for the examples that the prompt holds
    """)),
    "agent_abuse": Category("Tool and agent abuse", ("LLM06", "LLM01"), ("AML.T0053", "AML.T0051.001"), True, _read("""
            unauthorised_action high has an agent do what its user did not ask for
            tool_coercion high insists on a certain tool, or on a tool where none is needed
            confirmation_bypass critical tells an agent to act without asking, or that the user agreed
            tool_poisoning critical orders in the description of a tool
            memory_poisoning high has something false or harmful written into an agent's memory
            credential_access critical has an agent read or hand over keys, tokens or passwords
            financial_action critical has an agent pay, transfer, order or change bank details
            messaging_action high has an agent send mail or messages in somebody's name
            file_system_action high has an agent read, change or delete files outside of its task
            browser_action high has an agent click, log in, download or fill in forms
            cross_agent_relay high orders that are to be passed on to other agents
            goal_replacement high gives an agent another aim than its user's
            mcp_shadowing critical a tool that changes how the tools of another server are used
            privilege_confusion critical has an agent use its rights for somebody who does not have them
            argument_injection high slips parameters into a tool call that nobody asked for
            loop_hijack medium keeps an agent planning or trying without an end
            schedule_action high has an agent set jobs, reminders or triggers that act later
            code_repository_action critical has a coding agent push, merge, publish or change a pipeline
            infrastructure_action critical has an agent create, change or delete machines, accounts or permissions
            audit_evasion critical tells an agent to hide, delete or keep quiet about what it did
    """)),
    "data_exfiltration": Category("Data exfiltration", ("LLM02", "LLM05"), ("AML.T0024", "AML.T0057"), True, _read("""
            markdown_image critical an image whose address carries what was said
            link_with_data high a link whose address carries what was said
            html_beacon critical markup that calls an address as soon as it is shown
            send_to_address high asks that data be sent to an address
            encoded_payload high data put into an encoding on its way out
            dns_tunnel high data in the names of hosts that are looked up
            webhook_collector high addresses of services that collect whatever is sent to them
            conversation_dump high asks for the whole conversation, to be passed on
            css_beacon high a style sheet that calls an address
            redirect_chain high data led through an open redirect or a link shortener
            form_submission high a form whose fields carry what was said
            script_beacon critical a script that sends what it can read
            file_upload high has a file or an attachment uploaded elsewhere
            shared_document medium data written into a document, sheet or board that others can read
            code_repository_leak high data put into a commit, an issue or a package
            calendar_leak medium data put into an invitation, a draft or an auto-reply
            search_query_leak medium data put into a search or the query of an API
            steganographic_reply medium data hidden in the wording, spacing or initials of a reply
            bulk_record_request high asks for whole tables of people, customers or accounts
            cross_tenant_request critical asks for what belongs to another customer, user or tenant
    """)),
    "obfuscation": Category("Encodings and smuggling", ("LLM01",), ("AML.T0054", "AML.T0015"), True, _read("""
            invisible_text high characters of no width that hide or part words
            tag_smuggling critical a second text in Unicode's tag characters
            variation_selector_smuggling critical a second text in variation selectors
            bidi_control high marks of direction that make a text read otherwise than it is shown
            homoglyph medium letters of other scripts that look like the ones meant
            base64_payload medium text in base 64, 32 or 85
            hex_payload medium text in hexadecimal, binary or decimal codes
            escape_payload medium text in escapes of a programming language, of HTML or of addresses
            cipher_payload medium text in a shift, swap or keyed cipher, Morse or Braille
            leetspeak low digits and signs for letters
            spaced_letters low letters set apart, so that words are none
            split_payload medium a text cut into pieces that are put together later
            zalgo low letters drowned in combining marks
            decode_and_run high asks the model to decode a text and do what it says
            token_smuggling medium words spelt so that a filter and a model read them differently
            reversed_text medium text written backwards
            emoji_encoding medium words spelt or hidden in emoji
            language_mix low languages changed within a sentence, to pass filters
            markup_hiding medium text hidden in comments, attributes or styles of markup
            ascii_art low words drawn out of characters
    """)),
    "harmful_code": Category("Harmful code", ("LLM05",), ("AML.T0050", "AML.T0053"), True, _read("""
            reverse_shell critical a shell that calls its master
            destructive_command critical deletes or overwrites what cannot be had back
            download_and_run critical fetches a program and runs it unseen
            credential_theft critical reads keys, cookies or passwords where they are stored
            sql_injection high a value that becomes part of a query
            cross_site_scripting high a value that becomes a script in a page
            template_injection high a value that a template engine runs
            path_traversal high a path that leads out of its folder
            privilege_escalation critical gets rights that it was not given
            persistence_mechanism critical sees to it that it is started again
            obfuscated_script high code that hides what it does
            malware_request high asks for a virus, a keylogger, a stealer or their like
            server_side_request_forgery high an address inside a network, for a server to call
            unsafe_deserialisation critical an object that runs code when it is read
            crypto_mining high mines coins on others' machines
            security_tool_disable critical turns off virus scanners, firewalls or logs
            command_injection critical a value that ends one command of a shell and begins another
            xml_external_entity high an XML document that reads files or calls addresses
            ransomware critical encrypts or takes files to ask money for them
            supply_chain_code critical an install script or dependency made to run on others' machines
    """)),
    "resource_abuse": Category("Resource abuse", ("LLM10",), ("AML.T0029", "AML.T0034"), True, _read("""
            endless_output medium asks for output without an end
            repetition_attack high has a word repeated until a model says what it was trained on
            recursive_expansion high a text that grows each time it is expanded
            token_flood medium a prompt of filling, to cost or to push instructions out
            glitch_token low tokens that make models stumble
            context_exhaustion medium fills the context so that what stood first falls out of it
            nested_structure high brackets, JSON or XML nested so deep that parsers break
            regex_denial high an expression, or a text for one, that makes a backtracking engine run on
            archive_bomb high a small file that unpacks to a huge one
            reasoning_trap medium a riddle made to keep a reasoning model at it
            tool_call_flood high has an agent call tools far more often than a task needs
            retry_storm medium has what failed tried again without an end
            fan_out high has one request start many others, or many agents
            cache_busting low requests varied so that nothing is found in a cache
            oversized_media medium images, sound or files of the sizes that cost most
            batch_abuse medium many prompts as one request
            model_scraping medium queries by plan, to copy how a model behaves
            quota_evasion medium work split over keys, accounts or addresses to pass limits
            tokenizer_inflation low few characters that make many tokens
            self_replication critical a text that has a model write it out for the next one to read
    """)),
    "secret": Category("Secrets", ("LLM02",), ("AML.T0055",), False, _read("""
            cloud_key critical keys of cloud providers
            ai_provider_key critical keys of model providers
            source_control_token critical tokens of code hosts
            chat_token high tokens and webhooks of chat services
            payment_key critical keys of payment services
            private_key critical private keys in PEM, OpenSSH, PGP or PuTTY form
            database_url critical addresses of databases with user and password
            package_registry_token critical tokens that publish packages
            ci_token high tokens of build services
            monitoring_key medium keys of monitoring and log services
            email_service_key high keys of services that send mail
            web_token high signed tokens that carry a login (JWT)
            infrastructure_token critical tokens of infrastructure tools, vaults and clusters
            generic_credential high a password or key by the words around it
            cryptocurrency_key critical private keys and seed phrases of wallets
            saas_token high tokens of other services
            vpn_key critical keys in the configuration of a virtual private network
            signing_key critical keys that sign programs, packages or tokens
            recovery_code high codes for when a second factor is lost
            session_cookie high a cookie that carries a login
    """)),
    "pii": Category("Personal data", ("LLM02",), ("AML.T0057",), False, _read("""
            payment critical numbers of payment cards
            bank high numbers of bank accounts
            national high numbers that a state gives its people
            health critical numbers and records of health care
            contact_email medium addresses of electronic mail
            contact_phone medium telephone numbers
            contact_address medium postal addresses
            network low addresses of machines on a network
            birth_date medium dates of birth
            travel_document high numbers of passports and visas
            driver_licence high numbers of driving licences
            tax high numbers of taxpayers
            vehicle low plates and numbers of vehicles
            name low names of people
            education low numbers of pupils, students and certificates
            employment medium numbers of staff, payroll and pension
            biometric critical templates of faces, fingers, voices and genes
            location medium where somebody is, lives or moves
            online_account low names and numbers of accounts on services
            insurance medium numbers of insurance policies and claims
    """)),
}  # fmt: skip


@cache  # an unknown one is an error, which is not kept
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
