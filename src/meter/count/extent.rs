//! How much text and how many images a request holds, in one pass and without a tree: the bound that admission needs
//! before anything is counted.

use std::borrow::Cow;

use super::media::{self, ImageTokens};
use crate::dialect::json::{LongStrings, quote_or_backslash};

/// What a request body holds, in bytes and pieces.
///
/// Every token of a byte-level encoding stands for at least one byte, so no text has more tokens than bytes; the framing of
/// providers is allowed for by the punctuation that it stands for, object by object. Encoded images, sound and documents
/// are no text.
///
/// What a request does not hold cannot be seen here: a stored conversation that it continues (see
/// [`Conversations`](crate::admit::Conversations)), or a provider's own hidden prompt for its built-in tools.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// Bytes of string values, as written (an escape counts with all its characters).
    pub text_bytes: u64,
    /// Bytes of names, numbers and punctuation; white space between them is left out.
    pub frame_bytes: u64,
    /// Objects: each may be a message.
    pub objects: u64,
    /// Lists of tools and schemas of answers.
    pub schemas: u64,
    /// Images.
    pub images: u64,
    /// Of these, those to be read in their original size.
    pub original_images: u64,
    /// Bytes of sound, decoded.
    pub audio_bytes: u64,
    /// Documents.
    pub documents: u64,
    /// Bytes of documents, decoded.
    pub document_bytes: u64,
}

/// Deeper bodies are taken as text altogether: no API has any use for them.
const DEPTH_MAX: usize = 64;
/// What is billed once for a request: the start of the answer, and the seven of o1-mini.
const FRAMING_TOKENS_MAX: u64 = 12;
/// What is billed for having tools at all: Anthropic's hidden prompt that explains them.
const SCHEMA_TOKENS_MAX: u64 = 600;

impl Extent {
    /// Measures a body. What is not JSON is text altogether.
    pub fn of(body: &[u8]) -> Extent {
        Extent::knowing(body, &LongStrings::default())
    }

    /// The same, of a body whose own long strings are known: those of another would give another's measures.
    pub fn knowing(body: &[u8], long_strings: &LongStrings) -> Extent {
        let mut scan = Scan {
            extent: Extent::default(),
            frames: Vec::new(),
        };
        match scan.run(body, long_strings) {
            Some(()) => scan.extent,
            None => Extent {
                text_bytes: body.len() as u64,
                ..Extent::default()
            },
        }
    }

    /// Bytes that are tokens at worst.
    pub fn countable_bytes(&self) -> u64 {
        self.text_bytes.saturating_add(self.frame_bytes)
    }

    /// The most input tokens that this can be for a model.
    pub fn upper_bound(&self, model: &str) -> u64 {
        self.countable_bytes()
            .saturating_add(self.objects)
            .saturating_add(self.schemas.saturating_mul(SCHEMA_TOKENS_MAX))
            .saturating_add(FRAMING_TOKENS_MAX)
            .saturating_add(self.media_upper_bound(model))
    }

    /// The most tokens that its images, sound and documents can be.
    pub fn media_upper_bound(&self, model: &str) -> u64 {
        let original = self.original_images.min(self.images);
        // Most requests hold none, and what a model takes for one is looked up by its name.
        let images = match self.images {
            0 => 0,
            images => {
                let most = ImageTokens::of_model(model).most;
                // A model that knows no original size may read such an image as it reads any.
                let most_original = most.max(media::ORIGINAL_IMAGE_TOKENS_MAX);
                (images - original)
                    .saturating_mul(most)
                    .saturating_add(original.saturating_mul(most_original))
            }
        };
        images
            .saturating_add(media::audio_tokens_max(self.audio_bytes))
            .saturating_add(media::document_tokens_max(
                self.documents,
                self.document_bytes,
            ))
    }

    /// The likely input tokens, for when there is no time to count them: 3.5 bytes to a token.
    pub fn estimate(&self, model: &str) -> u64 {
        let text = self.text_bytes.saturating_mul(2) / 7;
        let frame = self.frame_bytes / 6;
        let images = self
            .images
            .saturating_mul(ImageTokens::of_model(model).typical);
        text.saturating_add(frame)
            .saturating_add(images)
            .saturating_add(media::audio_tokens(self.audio_bytes))
            .saturating_add(media::document_tokens(self.documents, self.document_bytes))
    }
}

/// Member names that decide what a string is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name {
    Type,
    ImageUrl,
    Url,
    Detail,
    InputAudio,
    Source,
    Data,
    FileData,
    Result,
    /// Tools and schemas: all text, whatever their own names are.
    Schema,
    Other,
}

impl Name {
    fn of(raw: &[u8]) -> Name {
        match &*unescaped(raw) {
            b"type" => Name::Type,
            b"image_url" => Name::ImageUrl,
            b"url" => Name::Url,
            b"detail" => Name::Detail,
            b"input_audio" => Name::InputAudio,
            b"source" => Name::Source,
            b"data" => Name::Data,
            b"file_data" => Name::FileData,
            b"result" => Name::Result,
            b"tools" | b"functions" | b"response_format" | b"output_config" => Name::Schema,
            _ => Name::Other,
        }
    }
}

/// What an object's `type` says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Image,
    MadeImage,
    Document,
    File,
    /// A source whose data is plain text, or whose content stands beside it.
    Plain,
    Other,
}

impl Kind {
    fn of(raw: &[u8]) -> Kind {
        match &*unescaped(raw) {
            b"image" | b"image_url" | b"input_image" | b"computer_screenshot" => Kind::Image,
            b"image_generation_call" => Kind::MadeImage,
            b"document" => Kind::Document,
            b"file" | b"input_file" => Kind::File,
            b"text" | b"content" => Kind::Plain,
            _ => Kind::Other,
        }
    }
}

/// One open object or array.
#[derive(Clone, Copy, Debug)]
struct Frame {
    /// The member whose value it is.
    slot: Name,
    is_object: bool,
    /// The name read last, and whether its value is what comes next.
    name: Name,
    in_value: bool,
    kind: Kind,
    /// Whether its image, or its document's text, has been counted where the data stood.
    counted: bool,
    /// Encoded bytes that mean what `kind` says at the end.
    data: u64,
    in_schema: bool,
}

struct Scan {
    extent: Extent,
    frames: Vec<Frame>,
}

impl Scan {
    fn run(&mut self, body: &[u8], long_strings: &LongStrings) -> Option<()> {
        let mut long_strings = long_strings.iter();
        let mut rest = body;
        while let Some((&byte, after)) = rest.split_first() {
            rest = after;
            match byte {
                b' ' | b'\t' | b'\n' | b'\r' => continue,
                b'"' => {
                    let start = body.len() - rest.len();
                    let (text, after) = match long_strings.as_slice().first() {
                        Some(long) if long.start == start => {
                            long_strings.next();
                            debug_assert_eq!(body.get(long.end), Some(&b'"'), "another body's");
                            (body.get(long.clone())?, body.get(long.end + 1..)?)
                        }
                        _ => string(rest)?,
                    };
                    rest = after;
                    self.string(text);
                    continue;
                }
                b'{' | b'[' => self.open(byte == b'{')?,
                b'}' | b']' => self.close()?,
                b':' => {
                    if let Some(frame) = self.frames.last_mut() {
                        frame.in_value = true;
                    }
                }
                b',' => {
                    if let Some(frame) = self.frames.last_mut() {
                        frame.in_value = false;
                    }
                }
                _ => self.no_kind(),
            }
            self.extent.frame_bytes += 1;
        }
        self.frames.is_empty().then_some(())
    }

    /// A value that is no string: as a `type` it says nothing.
    fn no_kind(&mut self) {
        if let Some(frame) = self.frames.last_mut()
            && frame.in_value
            && frame.name == Name::Type
        {
            frame.kind = Kind::Other;
        }
    }

    fn open(&mut self, is_object: bool) -> Option<()> {
        let parent = self.frames.last().copied();
        let slot = match parent {
            // An array's elements are what the array is: `content: [ … ]`.
            Some(parent) if !parent.is_object => parent.slot,
            Some(parent) => parent.name,
            None => Name::Other,
        };
        let in_schema = parent.is_some_and(|parent| parent.in_schema) || slot == Name::Schema;
        if self.frames.len() >= DEPTH_MAX {
            return None;
        }
        self.extent.objects += u64::from(is_object);
        self.extent.schemas += u64::from(slot == Name::Schema && self.frames.len() == 1);
        self.no_kind();
        self.frames.push(Frame {
            slot,
            is_object,
            name: Name::Other,
            in_value: false,
            kind: Kind::Other,
            counted: false,
            data: 0,
            in_schema,
        });
        Some(())
    }

    fn close(&mut self) -> Option<()> {
        let frame = self.frames.pop()?;
        if frame.in_schema {
            return Some(());
        }
        let mut parent = self.frames.last_mut();
        match (frame.slot, frame.kind) {
            (Name::Source, Kind::Plain) => {
                self.extent.text_bytes += frame.data;
                if let Some(parent) = &mut parent {
                    parent.counted = true;
                }
            }
            // Whether it is an image or a document is what the object around the source says.
            (Name::Source, _) => {
                if let Some(parent) = &mut parent {
                    parent.data += frame.data;
                }
            }
            (_, Kind::Image) if !frame.counted => self.extent.images += 1,
            (_, Kind::MadeImage) => self.extent.images += 1,
            (_, Kind::Document) if frame.counted => {}
            (_, Kind::Document | Kind::File) => {
                self.extent.documents += 1;
                self.extent.document_bytes += decoded(frame.data);
            }
            (_, Kind::Other | Kind::Plain) => self.extent.text_bytes += frame.data,
            (_, Kind::Image) => {}
        }
        if let Some(parent) = parent
            && frame.slot == Name::ImageUrl
        {
            parent.counted |= frame.counted;
        }
        Some(())
    }

    fn string(&mut self, raw: &[u8]) {
        let bytes = raw.len() as u64;
        let Some(frame) = self.frames.last_mut() else {
            self.extent.text_bytes += bytes;
            return;
        };
        if frame.is_object && !frame.in_value {
            frame.name = Name::of(raw);
            self.extent.frame_bytes += bytes + 2;
            return;
        }
        self.extent.frame_bytes += 2;
        if frame.in_schema || !frame.is_object {
            self.extent.text_bytes += bytes;
            return;
        }
        match (frame.slot, frame.name) {
            (_, Name::ImageUrl) | (Name::ImageUrl, Name::Url) => {
                frame.counted = true;
                self.extent.images += 1;
            }
            (Name::InputAudio, Name::Data) => self.extent.audio_bytes += decoded(bytes),
            (_, Name::FileData) => {
                // In a chat the data stands one object deeper than the type that says so.
                self.extent.document_bytes += decoded(bytes);
            }
            (Name::Source, Name::Data | Name::Url) | (_, Name::Result) => frame.data += bytes,
            (_, Name::Type) => {
                frame.kind = Kind::of(raw);
                self.extent.text_bytes += bytes;
            }
            (_, Name::Detail) => {
                self.extent.original_images += u64::from(*unescaped(raw) == *b"original");
                self.extent.text_bytes += bytes;
            }
            _ => self.extent.text_bytes += bytes,
        }
    }
}

/// What a string holds, as written, and what follows its closing quote.
fn string(after_quote: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut at = 0;
    loop {
        let found = at + quote_or_backslash(after_quote.get(at..)?)?;
        if after_quote.get(found) == Some(&b'"') {
            return Some((after_quote.get(..found)?, after_quote.get(found + 1..)?));
        }
        at = found + 2;
    }
}

/// A name or a kind as it reads; a hostile client may write any letter as an escape.
fn unescaped(raw: &[u8]) -> Cow<'_, [u8]> {
    if !raw.contains(&b'\\') {
        return Cow::Borrowed(raw);
    }
    let quoted = [b"\"", raw, b"\""].concat();
    match serde_json::from_slice::<String>(&quoted) {
        Ok(text) => Cow::Owned(text.into_bytes()),
        Err(_) => Cow::Borrowed(raw),
    }
}

fn decoded(base64_bytes: u64) -> u64 {
    base64_bytes / 4 * 3
}

#[cfg(test)]
mod tests;
