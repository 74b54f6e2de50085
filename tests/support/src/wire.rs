//! Raw connections to the data plane: bytes out, answers in, nothing repaired. For tests that send what a well-behaved client would not.
//!
//! Every read has a deadline. Deliberately simple: bodies with `Content-Length` only, which is all that the data plane sends.

use crate::Outcome;
use crate::sidecar::Answer;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Longest wait for a byte.
const READ_WITHIN: Duration = Duration::from_secs(20);

/// A frame of the TCP protocol: `[u32 length][u16 op][u8 content type][payload]`, big-endian, the length counting from the opcode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Opcode; `0xFFFF` is an error.
    pub op: u16,
    /// `1` JSON, `2` MessagePack.
    pub content_type: u8,
    /// The rest.
    pub payload: Vec<u8>,
}

impl Frame {
    /// A JSON frame.
    pub fn json(op: u16, text: &str) -> Self {
        Self { op, content_type: 1, payload: text.as_bytes().to_vec() }
    }

    /// Its bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let length = u32::try_from(self.payload.len() + 3).unwrap_or(u32::MAX);
        let mut bytes = length.to_be_bytes().to_vec();
        bytes.extend_from_slice(&self.op.to_be_bytes());
        bytes.push(self.content_type);
        bytes.extend_from_slice(&self.payload);
        bytes
    }

    /// The stable code of an error frame, empty when there is none.
    pub fn code(&self) -> String {
        let body: serde_json::Value = serde_json::from_slice(&self.payload).unwrap_or_default();
        body["error"]["code"].as_str().or_else(|| body["code"].as_str()).unwrap_or_default().to_owned()
    }
}

/// A connection.
#[derive(Debug)]
pub struct Raw {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Raw {
    /// Connects.
    ///
    /// # Errors
    /// Refused.
    pub fn connect(address: &str) -> Outcome<Self> {
        let stream = TcpStream::connect(address).map_err(|error| format!("{address}: {error}"))?;
        stream
            .set_read_timeout(Some(READ_WITHIN))
            .and_then(|()| stream.set_write_timeout(Some(READ_WITHIN)))
            .map_err(|error| error.to_string())?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        Ok(Self { stream, buffer: Vec::new() })
    }

    /// A second handle, for reading and writing on two threads.
    ///
    /// # Errors
    /// The system has no descriptor left.
    pub fn split(&self) -> Outcome<Self> {
        let stream = self.stream.try_clone().map_err(|error| error.to_string())?;
        Ok(Self { stream, buffer: Vec::new() })
    }

    /// Sends bytes.
    ///
    /// # Errors
    /// The peer closed.
    pub fn send(&mut self, bytes: &[u8]) -> Outcome<()> {
        self.stream.write_all(bytes).map_err(|error| format!("cannot send: {error}"))
    }

    /// Reads one HTTP answer.
    ///
    /// # Errors
    /// The peer closed or said nothing before the answer was whole.
    pub fn answer(&mut self) -> Outcome<Answer> {
        let head_len = loop {
            match self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                Some(at) => break at + 4,
                None => self.more()?,
            }
        };
        let head = String::from_utf8_lossy(self.buffer.get(..head_len).unwrap_or_default()).into_owned();
        self.buffer.drain(..head_len);
        let status = head.split(' ').nth(1).and_then(|word| word.parse().ok()).ok_or_else(|| format!("no status in {head:?}"))?;
        let headers: std::collections::BTreeMap<String, String> = head
            .lines()
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let body_len: usize = headers.get("content-length").and_then(|text| text.parse().ok()).unwrap_or_default();
        while self.buffer.len() < body_len {
            self.more()?;
        }
        let text = String::from_utf8_lossy(&self.buffer.drain(..body_len).collect::<Vec<u8>>()).into_owned();
        Ok(Answer { status, body: serde_json::from_str(&text).unwrap_or_default(), headers, text })
    }

    /// Reads one frame.
    ///
    /// # Errors
    /// The peer closed or said nothing before the frame was whole.
    pub fn frame(&mut self) -> Outcome<Frame> {
        let length = loop {
            match self.buffer.first_chunk::<4>() {
                Some(prefix) => break u32::from_be_bytes(*prefix) as usize,
                None => self.more()?,
            }
        };
        while self.buffer.len() < 4 + length {
            self.more()?;
        }
        let bytes: Vec<u8> = self.buffer.drain(..4 + length).skip(4).collect();
        match bytes.as_slice() {
            [high, low, content_type, payload @ ..] => {
                Ok(Frame { op: u16::from_be_bytes([*high, *low]), content_type: *content_type, payload: payload.to_vec() })
            }
            short => Err(format!("a frame of {} bytes", short.len())),
        }
    }

    /// Whether the peer has closed and nothing more came.
    pub fn closed(&mut self) -> bool {
        let mut byte = [0];
        self.buffer.is_empty()
            && match self.stream.read(&mut byte) {
                Ok(read) => read == 0,
                Err(error) => matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe),
            }
    }

    fn more(&mut self) -> Outcome<()> {
        let mut chunk = [0; 16384];
        match self.stream.read(&mut chunk) {
            Ok(0) => Err(format!("the peer closed after {} bytes", self.buffer.len())),
            Ok(n) => {
                self.buffer.extend_from_slice(chunk.get(..n).unwrap_or_default());
                Ok(())
            }
            Err(error) => Err(format!("nothing came: {error}")),
        }
    }
}
