import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from trainyard import figures
from trainyard.kinds import speech
from trainyard.params import Speech, Split
from trainyard.quality import baselines, metrics

CALLS = Path("calls")
WORDS = ("yes", "no", "maybe so", "never")


def tone(seconds=0.5, rate=8000, hertz=500, channels=1, loud=0.5):
    wave = loud * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)
    return np.repeat(wave[:, None], channels, axis=1)


def calls(count=20, seconds=0.5):
    """Recordings that all differ, by five voices, and their transcripts."""
    CALLS.mkdir()
    rows = ["file,transcript,voice"]
    for i in range(count):
        soundfile.write(CALLS / f"{i:02d}.wav", tone(seconds, hertz=300 + 50 * i), 8000)
        rows.append(f"{i:02d}.wav,{WORDS[i % 4]},voice {i % 5}")
    write(rows)
    return rows


def write(rows):
    (CALLS / "transcripts.csv").write_text("\n".join(rows) + "\n")


def spec(**knobs):
    return Speech(**{"kind": "speech", "path": str(CALLS)} | knobs)


def encoded(sound, rate=8000, **how):
    content = io.BytesIO()
    soundfile.write(content, sound, rate, **{"format": "WAV"} | how)
    return content.getvalue()


# === What is read ===


def test_the_manifest_has_a_row_a_recording(here):
    calls(3)
    write(["file,transcript,voice", "00.wav,  Yes  INDEED ,ann", "01.wav,no,bob", "02.wav,no,bob"])
    manifest = speech.manifest(spec(group="voice"))
    assert list(manifest.index) == ["00.wav", "01.wav", "02.wav"]
    assert list(manifest["transcript"]) == ["yes indeed", "no", "no"]
    assert list(manifest["voice"]) == ["ann", "bob", "bob"] == list(speech.groups(spec(group="voice"), manifest))
    first = manifest.iloc[0]
    assert first[["row", "rate", "channels", "seconds"]].tolist() == [2, 8000, 1, 0.5]
    assert first["loudest"] == pytest.approx(20 * np.log10(0.5), abs=0.01)
    assert speech.contents(spec(), manifest).is_unique


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("00.wav", {}),
        ("00.wav", {"subtype": "PCM_U8"}),
        ("00.wav", {"subtype": "PCM_24"}),
        ("00.wav", {"subtype": "FLOAT"}),
        ("00.flac", {"format": "FLAC"}),
        ("00.ogg", {"format": "OGG", "subtype": "VORBIS"}),
    ],
)
def test_wav_flac_and_ogg_hold_the_same_sound(here, name, how):
    raw, _ = speech.decode(spec(), {}, pd.DataFrame({"recording": [encoded(tone(), **how)]}))
    assert raw["samples"].dtype == np.float32
    assert raw["length"].tolist() == [[4000]]
    heard = raw["samples"][0, 100:-100]
    assert np.abs(heard - tone()[100:-100, 0]).max() < (0.1 if "ogg" in name else 0.01)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate", [16_000, 22_050, 44_100, 48_000])
def test_sound_is_brought_to_one_rate_and_one_channel(here, rate, channels):
    content = encoded(tone(rate=rate, channels=channels), rate)
    raw, _ = speech.decode(spec(), {}, pd.DataFrame({"recording": [content]}))
    assert raw["length"].tolist() == [[4000]]
    np.testing.assert_allclose(raw["samples"][0, 200:-200], tone()[200:-200, 0], atol=0.01)


def test_what_no_8_khz_can_hold_is_taken_out_not_folded_down(here):
    raw, _ = speech.decode(spec(), {}, pd.DataFrame({"recording": [encoded(tone(rate=44_100, hertz=7000), 44_100)]}))
    assert np.abs(raw["samples"][0, 300:-300]).max() < 0.01


def test_a_set_that_is_alike_may_be_44_khz_stereo_and_says_what_becomes_of_it(here, caplog):
    calls(4)
    for i in range(4):
        soundfile.write(CALLS / f"{i:02d}.wav", tone(rate=44_100, channels=2, hertz=300 + i), 44_100)
    manifest = speech.manifest(spec())
    assert set(manifest["rate"]) == {44_100}
    assert set(manifest["channels"]) == {2}
    with caplog.at_level("INFO", "trainyard"):
        speech.facts(spec(), manifest)
    assert "4 recordings of 44100 Hz, 2 channel(s): brought to 8000 Hz, 1 channel" in caplog.text


def test_the_alphabet_is_sorted_and_may_be_given(here):
    calls(4)
    manifest = speech.manifest(spec())
    assert speech.facts(spec(), manifest)["classes"] == sorted(set("".join(WORDS)))
    given = spec(alphabet="zyxwvutsrqponmlkjihgfedcba ")
    assert speech.facts(given, manifest)["classes"] == list(" abcdefghijklmnopqrstuvwxyz")


# === What is refused ===


@pytest.mark.parametrize(
    ("rows", "knobs", "told"),
    [
        (["00.wav,"], {}, "calls/transcripts.csv:2: column `transcript`: is empty"),
        (["00.wav,   "], {}, "calls/transcripts.csv:2: column `transcript`: is empty"),
        (["00.wav,ça va"], {"alphabet": "abcdefghijklmnopqrstuvwxyz "}, "letter 'ç' is not in `alphabet`"),
        (["00.wav,a\x07b"], {}, "control characters"),
        (["00.wav,yes", "gone.wav,no"], {}, "calls/transcripts.csv:3: column `file`: 'gone.wav' is not there"),
        (["00.wav,yes", "00.wav,no"], {}, "calls/transcripts.csv:3: column `file`: '00.wav' has a transcript in row 2"),
        (["../00.wav,yes"], {}, "expected a WAV, FLAC or OGG file below calls"),
        (["/00.wav,yes"], {}, "expected a WAV, FLAC or OGG file below calls"),
        (["00.mp3,yes"], {}, "expected a WAV, FLAC or OGG file below calls"),
        (["00.wav," + "long " * 12], {}, "'00.wav' has 0.50 s, too few for a transcript of 59 letters"),
        (["00.wav,yes"], {"rate": 16_000}, "calls/00.wav: 8000 samples a second (expected 16000 or more"),
        (["00.wav,yes"], {"longest": 0.2}, "(at most 0.2: cut it, or raise `longest`)"),
        (["00.wav,yes"], {"group": "speaker"}, "no column `speaker`"),
        (["./00.wav,yes", "00.wav,no"], {}, "calls/transcripts.csv:3: column `file`: '00.wav' has a transcript in row"),
    ],
)
def test_transcripts_that_are_refused(here, refusal, rows, knobs, told):
    CALLS.mkdir()
    soundfile.write(CALLS / "00.wav", tone(), 8000)
    write(["file,transcript", *rows])
    assert told in refusal(lambda: speech.manifest(spec(**knobs)))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "no readable WAV, FLAC or OGG"),
        (b"<!DOCTYPE html>", "no readable WAV, FLAC or OGG"),
        (encoded(tone())[:40], "no readable WAV, FLAC or OGG"),
        (encoded(np.random.default_rng(0).normal(0, 0.1, 4000), format="FLAC")[:3000], "decoder lost sync"),
        (encoded(tone(0)), "holds no sound (0 samples)"),
        (encoded(tone(), format="MP3"), "holds MP3 (expected WAV, FLAC or OGG)"),
        (encoded(tone(), format="AIFF"), "holds AIFF (expected WAV, FLAC or OGG)"),
        (encoded(np.full((4000, 1), np.nan), subtype="FLOAT"), "broken recording"),
        (encoded(tone(40)), "40 s (at most 30: cut it"),
        (encoded(tone(), rate=2_000_000_011), "2000000011 samples a second (at most 192000)"),
    ],
)
def test_recordings_that_are_refused(here, refusal, content, told):
    calls(2)
    (CALLS / "01.wav").write_bytes(content)
    assert refusal(lambda: speech.manifest(spec())).startswith("calls/01.wav: ")
    assert told in refusal(lambda: speech.manifest(spec()))


def test_a_recording_unlike_the_others_is_refused_unless_params_take_it(here, refusal):
    calls(4)
    soundfile.write(CALLS / "03.wav", tone(rate=44_100, channels=2), 44_100)
    told = refusal(lambda: speech.manifest(spec()))
    assert told.startswith("calls/03.wav: 44100 Hz and 2 channel(s), most have 8000 and 1; 1 such")
    assert len(speech.manifest(spec(mixed=True))) == 4


def test_a_recording_without_a_transcript_is_refused(here, refusal):
    rows = calls(4)
    write(rows[:-1])
    assert refusal(lambda: speech.manifest(spec())).startswith("calls/03.wav: has no transcript in transcripts.csv")


def test_places_that_are_no_such_folder_are_refused(here, refusal):
    assert refusal(lambda: speech.manifest(spec())).startswith("calls: not found (expected a folder with transcripts")
    CALLS.mkdir()
    assert refusal(lambda: speech.manifest(spec())) == "calls/transcripts.csv: not found"
    Path("file").write_text("x")
    assert refusal(lambda: speech.manifest(spec(path="file"))).startswith("file: is a file (expected a folder")


@pytest.mark.parametrize(("loud", "silent"), [(0.5, False), (0.01, False), (0.0005, True), (0.0, True)])
def test_silence_does_not_pass_validation(here, loud, silent):
    from trainyard import validation

    calls(12)
    soundfile.write(CALLS / "03.wav", tone(loud=loud), 8000, subtype="FLOAT")
    result = validation.check("calls", spec(), speech.manifest(spec()))
    failed = [(outcome.check.column, list(outcome.faults.index)) for outcome in result.failed]
    assert failed == ([("loudest", ["03.wav"])] if silent else [])


def test_two_channels_that_take_each_other_out_are_silence(here):
    CALLS.mkdir()
    soundfile.write(CALLS / "00.wav", tone(channels=2) * [1, -1], 8000)
    write(["file,transcript", "./00.wav,yes"])
    assert speech.manifest(spec())["loudest"]["00.wav"] < speech.SILENCE


def test_a_speaker_who_is_not_named_is_refused(here, refusal):
    rows = calls()
    rows[7] = rows[7].rsplit(",", 1)[0] + ","
    write(rows)
    told = "calls/transcripts.csv:8: column `voice`: is empty; 1 such row(s)"
    assert refusal(lambda: speech.manifest(spec(group="voice"))) == told


def test_a_letter_is_the_same_in_both_its_spellings(here):
    calls(4)
    write(["file,transcript", "00.wav,caf\u00e9", "01.wav,CAFE\u0301", "02.wav,face", "03.wav,fa\u00e7ade"])
    manifest = speech.manifest(spec(alphabet="acdefe\u0301\u00e7"))
    assert manifest["transcript"].nunique() == 3
    assert speech.facts(spec(), manifest)["classes"] == sorted("acdef\u00e9\u00e7")


def test_a_letter_that_training_never_hears_is_refused(here, refusal):
    rows = calls()
    manifest = speech.manifest(spec(group="voice"))
    parts = speech.split(spec(group="voice"), manifest, 1)
    place = list(manifest.index).index(parts[parts == "test"].index[0]) + 1
    rows[place] = rows[place].replace(rows[place].split(",")[1], "qy")
    write(rows)
    told = refusal(lambda: speech.split(spec(group="voice"), speech.manifest(spec(group="voice")), 1))
    assert told.startswith(f"calls/transcripts.csv:{place + 1}: column `transcript`: letter 'q' is in no transcript of")


@pytest.mark.parametrize(
    ("table", "told"),
    [
        (pd.DataFrame({"sound": [b""]}), "no column `recording`"),
        (pd.DataFrame({"recording": ["a.wav"]}), "row 0: str (expected the bytes of a WAV, FLAC or OGG file)"),
        (pd.DataFrame({"recording": [b"RIFF"]}), "row 0: no readable WAV, FLAC or OGG"),
    ],
)
def test_rows_that_are_no_recordings_get_no_answer(refusal, table, told):
    assert refusal(lambda: speech.decode(spec(), {}, table)).startswith(told)


# === What is prepared ===


def test_voices_of_the_test_are_never_heard_in_training(prepared):
    calls()
    data = prepared(spec(group="voice"))
    voices = [set(part.rows["group"]) for part in (data.train, data.validation, data.test)]
    assert all(voices)
    assert not any(one & other for one, other in [voices[:2], voices[1:], voices[::2]])
    assert len(data.train) + len(data.validation) + len(data.test) == 20


def test_a_given_split_is_kept(prepared):
    rows = calls()
    write(
        [
            "file,transcript,part",
            *(f"{row.rsplit(',', 1)[0]},{'test' if i < 4 else 'train'}" for i, row in enumerate(rows[1:])),
        ]
    )
    assert list(prepared(spec(split=Split(given="part"))).test.rows.index) == ["00.wav", "01.wav", "02.wav", "03.wav"]


def test_clips_are_padded_when_they_are_asked_for():
    sound, lengths = np.arange(1, 10, dtype=np.float32), np.array([2, 4, 3])
    clips = speech.Clips(sound, np.cumsum(lengths) - lengths, lengths)
    assert (len(clips), clips.shape, clips.dtype) == (3, (3, 4), np.float32)
    assert clips[:].tolist() == [[1, 2, 0, 0], [3, 4, 5, 6], [7, 8, 9, 0]]
    assert clips[np.array([2, 0])].tolist() == [[7, 8, 9, 0], [1, 2, 0, 0]]
    assert clips[1].tolist() == [3, 4, 5, 6]


def features(data, raw):
    from trainyard.models import saved

    return saved.predict(speech.preprocessing(data.spec, data.facts, data.train).model(), raw)


def test_spectrograms_are_centred_scaled_and_nothing_beyond_the_end(prepared):
    calls()
    soundfile.write(CALLS / "07.wav", tone(0.8, hertz=650), 8000)
    data = prepared(spec())
    found = features(data, data.train.raw)
    frames = np.ceil(data.train.raw["length"][:, 0] / 80).astype(int)
    assert found.shape[2] == data.spec.bands
    for spectrogram, count in zip(found, frames, strict=True):
        assert (spectrogram[count:] == 0).all()
        np.testing.assert_allclose(spectrogram[:count].mean(axis=0), 0, atol=1e-4)
    there = np.concatenate([spectrogram[:count] for spectrogram, count in zip(found, frames, strict=True)])
    np.testing.assert_allclose(there.std(axis=0), 1, rtol=1e-3)


def test_loudness_and_padding_change_no_feature(prepared):
    calls()
    data = prepared(spec())
    noise = np.random.default_rng(0).normal(0, 0.1, (1, 4000)).astype(np.float32)
    length = np.array([[4000]], np.int32)
    plain = features(data, {"samples": noise, "length": length})
    padded = features(data, {"samples": np.pad(noise, ((0, 0), (0, 3000))), "length": length})
    np.testing.assert_allclose(padded[:, : plain.shape[1]], plain, atol=1e-3)
    for loudness in (0.02, 4):
        other = features(data, {"samples": loudness * noise, "length": length})
        np.testing.assert_allclose(other, plain, atol=1e-3)


def test_noise_far_below_the_words_is_not_heard(prepared):
    calls()
    data = prepared(spec())
    word, length = tone(0.5)[None, :, 0].astype(np.float32), np.array([[4000]], np.int32)
    word[:, 2000:] = 0
    for loudness, heard in ((0.0005, False), (0.05, True)):
        noise = np.random.default_rng(0).normal(0, loudness, (1, 4000)).astype(np.float32)
        found = [features(data, {"samples": sound, "length": length}) for sound in (word, word + noise)]
        assert (np.abs(found[1] - found[0]).max() > 0.5) == heard


def test_the_scale_is_that_of_training_alone(prepared):
    calls()
    data = prepared(spec())
    before = features(data, data.train.raw)
    for example in data.test.rows.index:
        soundfile.write(CALLS / example, np.random.default_rng(0).normal(0, 0.1, 4000), 8000)
    np.testing.assert_array_equal(features(prepared(spec()), data.train.raw), before)


def test_the_core_learns_numbers_of_letters(prepared):
    calls()
    data = prepared(spec())
    learned = speech.preprocessing(data.spec, data.facts, data.train).learns(data.train)
    assert learned.dtype == np.int32
    told = ["".join(data.classes[number - 1] for number in row if number) for row in learned]
    assert told == list(data.train.target)
    assert data.units == len(data.classes) + 1


# === What it is compared with, and what is drawn ===


def test_the_nearest_recording_knows_what_it_has_heard():
    rng = np.random.default_rng(0)
    clips = [np.sin(2 * np.pi * (500 + 800 * i) * np.arange(4000) / 8000) + rng.normal(0, 0.01, 4000) for i in range(4)]
    asked = [clip[::-1] + rng.normal(0, 0.01, len(clip)) for clip in clips[::-1]]
    found = baselines.of_recordings(clips, np.array(WORDS), asked, 8000)
    assert list(found.answer) == list(WORDS[::-1])


def test_both_baselines_answer_each_test_recording(prepared):
    calls()
    data = prepared(spec())
    naive, classical = speech.compared(data.spec, data)
    assert (naive.name, classical.name) == ("the most frequent transcript", "nearest recording")
    assert len(naive.answer) == len(classical.answer) == len(data.test)
    said, counts = np.unique(data.train.target, return_counts=True)
    assert set(naive.answer) == {said[counts.argmax()]}


def test_mistakes_show_what_was_said_and_heard(prepared):
    calls()
    data = prepared(spec())
    heard = data.test.target.astype(object)
    heard[1] = "something else"
    figure = speech.mistakes(data.spec, data.facts, data.test, heard)
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles[0].startswith(f"{data.test.rows.index[1]}\nsaid:  {data.test.target[1]}\nheard: something else")
    assert "(right)" in titles[1]
    figures.save(figure, Path("mistakes.png"))


def test_confused_words_stand_in_the_matrix():
    said = np.array(["four two", "one", "nine"])
    figure = figures.words(said, np.array(["four too", "one two", "nine"]))
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert {"four", "two", "one", "nine", "too"} <= set(names)
    assert names[-1] == "other or none"
    counts = {text.get_position(): text.get_text() for text in figure.axes[0].texts}
    assert counts[names.index("too"), names.index("two")] == "1"
    assert counts[names.index("four"), names.index("four")] == "1"


def test_a_dash_may_be_a_word():
    figure = figures.words(np.array(["-", "well - yes"]), np.array(["-", "well yes"]))
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    counts = {text.get_position(): text.get_text() for text in figure.axes[0].texts}
    assert counts[names.index("-"), names.index("-")] == "1"
    assert counts[names.index("other or none"), names.index("-")] == "1"


def test_word_error_is_jiwers():
    import jiwer

    said, heard = ["one two three", "four", "five six"], ["one three", "for", "five six seven"]
    pair = np.array(said), np.array(heard)
    assert metrics.word_error(*pair) == pytest.approx(jiwer.wer(said, heard))
    assert metrics.character_error(*pair) == pytest.approx(jiwer.cer(said, heard))
