//! What is listened on: addresses, Unix sockets, and what systemd hands over.

use std::{
    fmt, fs, io,
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_util::either::Either;

/// Where connections arrive.
#[derive(Debug)]
pub enum Listener {
    Tcp(TcpListener),
    /// With the file that goes when it does, unless somebody else made it.
    Unix(UnixListener, Option<SocketFile>),
}

impl Listener {
    /// Listens on a Unix socket at `path` with these permissions. One that nobody listens on any more gives way.
    pub fn unix(path: &Path, mode: u32) -> io::Result<Self> {
        if let Ok(there) = fs::symlink_metadata(path) {
            if !there.file_type().is_socket() {
                let what = "there is something that is no socket; name another path, or remove it";
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, what));
            }
            match std::os::unix::net::UnixStream::connect(path) {
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path)?,
                _ => {
                    let what = "another process listens there; name another path, or end it";
                    return Err(io::Error::new(io::ErrorKind::AddrInUse, what));
                }
            }
        }
        let listener = UnixListener::bind(path)?;
        let file = SocketFile {
            inode: fs::symlink_metadata(path)?.ino(),
            path: path.to_owned(),
        };
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
        Ok(Self::Unix(listener, Some(file)))
    }

    pub(super) async fn accept(&self) -> io::Result<Either<TcpStream, UnixStream>> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Either::Left(stream))
            }
            Self::Unix(listener, _) => Ok(Either::Right(listener.accept().await?.0)),
        }
    }

    /// Whether other machines can connect, as far as is known here.
    pub fn is_reachable(&self) -> bool {
        match self {
            Self::Tcp(listener) => !listener
                .local_addr()
                .is_ok_and(|address| address.ip().to_canonical().is_loopback()),
            Self::Unix(..) => false,
        }
    }
}

impl fmt::Display for Listener {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(listener) => match listener.local_addr() {
                Ok(address) => address.fmt(out),
                Err(_) => out.write_str("an address"),
            },
            Self::Unix(listener, _) => match listener.local_addr() {
                Ok(address) => match address.as_pathname() {
                    Some(path) => write!(out, "unix:{}", path.display()),
                    None => out.write_str("unix:"),
                },
                Err(_) => out.write_str("unix:"),
            },
        }
    }
}

/// A socket's file, removed when it is dropped, unless another socket has taken its path.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let is_ours = fs::symlink_metadata(&self.path).is_ok_and(|there| there.ino() == self.inode);
        if is_ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove the socket");
        }
    }
}
