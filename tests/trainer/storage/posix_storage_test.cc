// Goal: the machine's files behave as base/storage.h says, and every error names the path and has the code that callers
// decide by. Method: the same calls on the real and the simulated storage where both must agree; the real one against
// what the kernel can be made to refuse.
#include "trainer/storage/posix_storage.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <string>

#include "tests/sim/sim_storage.h"
#include "trainer/storage/posix_error.h"

namespace dtrain {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::span<const std::byte> Bytes(std::string_view text) { return std::as_bytes(std::span(text)); }

class Folder {
 public:
  Folder() {
    std::string name = ::testing::TempDir() + "dtrain_storage_XXXXXX";
    path_ = mkdtemp(name.data());
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

Status Write(Storage& storage, const std::string& path, std::string_view text) {
  ASSIGN_OR_RETURN(const auto file, storage.Create(path));
  RETURN_IF_ERROR(file->Append(Bytes(text)));
  RETURN_IF_ERROR(file->Sync());
  return file->Close();
}

StatusOr<std::string> Read(const Storage& storage, const std::string& path) {
  ASSIGN_OR_RETURN(const auto file, storage.Open(path));
  std::string text(file->bytes(), '\0');
  RETURN_IF_ERROR(file->ReadAt(0, std::as_writable_bytes(std::span(text))));
  return text;
}

// What both storages promise. The simulated one must not be kinder than the real one.
class StorageContract : public ::testing::TestWithParam<bool> {
 protected:
  StorageContract() { EXPECT_TRUE(sim_.CreateDirectories(folder_ / "").ok()); }
  Storage& storage() { return GetParam() ? PosixStorage() : static_cast<Storage&>(sim_); }
  Folder folder_;
  SimStorage sim_;
};

TEST_P(StorageContract, CreateTruncatesAndOpenAppendGoesOn) {
  const std::string path = folder_ / "f";
  ASSERT_TRUE(Write(storage(), path, "long text").ok());
  ASSERT_TRUE(Write(storage(), path, "ab").ok());
  {
    const auto file = storage().OpenAppend(path);
    ASSERT_TRUE(file.ok()) << file.status();
    ASSERT_TRUE((*file)->Append(Bytes("c")).ok());
    ASSERT_TRUE((*file)->Append({}).ok());
    ASSERT_TRUE((*file)->Close().ok());
  }
  EXPECT_EQ(*Read(storage(), path), "abc");
  ASSERT_TRUE(storage().OpenAppend(folder_ / "new").ok());
  EXPECT_EQ(*Read(storage(), folder_ / "new"), "");
}

TEST_P(StorageContract, ReadsAnyPartAndNothingPastTheEnd) {
  ASSERT_TRUE(Write(storage(), folder_ / "f", "abcdef").ok());
  const auto file = storage().Open(folder_ / "f");
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ((*file)->bytes(), 6u);
  std::string part(3, '\0');
  ASSERT_TRUE((*file)->ReadAt(2, std::as_writable_bytes(std::span(part))).ok());
  EXPECT_EQ(part, "cde");
  EXPECT_TRUE((*file)->ReadAt(6, {}).ok());
  for (const uint64_t offset : {uint64_t{4}, uint64_t{7}, UINT64_MAX, UINT64_MAX - 1}) {
    const Status status = (*file)->ReadAt(offset, std::as_writable_bytes(std::span(part)));
    EXPECT_EQ(status.code(), StatusCode::kOutOfRange) << offset;
    EXPECT_THAT(Message(status), HasSubstr(folder_ / "f"));
  }
}

TEST_P(StorageContract, ListsNamesInOrder) {
  for (const char* name : {"b", "a", ".hidden", "a.tmp"}) ASSERT_TRUE(Write(storage(), folder_ / name, "").ok());
  ASSERT_TRUE(storage().CreateDirectories(folder_ / "d/e").ok());
  EXPECT_THAT(*storage().List(folder_ / ""), ElementsAre(".hidden", "a", "a.tmp", "b", "d"));
  EXPECT_THAT(*storage().List(folder_ / "d/e"), IsEmpty());
  EXPECT_EQ(storage().List(folder_ / "absent").status().code(), StatusCode::kNotFound);
  EXPECT_EQ(storage().List(folder_ / "a").status().code(), StatusCode::kFailedPrecondition);
}

TEST_P(StorageContract, RenameReplacesAFileAndMovesADirectory) {
  ASSERT_TRUE(Write(storage(), folder_ / "a", "new").ok());
  ASSERT_TRUE(Write(storage(), folder_ / "b", "old").ok());
  ASSERT_TRUE(storage().Rename(folder_ / "a", folder_ / "b").ok());
  EXPECT_EQ(*Read(storage(), folder_ / "b"), "new");
  EXPECT_FALSE(*storage().Exists(folder_ / "a"));
  ASSERT_TRUE(storage().CreateDirectories(folder_ / "d.tmp").ok());
  ASSERT_TRUE(Write(storage(), folder_ / "d.tmp/f", "x").ok());
  ASSERT_TRUE(storage().Rename(folder_ / "d.tmp", folder_ / "d").ok());
  EXPECT_EQ(*Read(storage(), folder_ / "d/f"), "x");
  EXPECT_EQ(storage().Rename(folder_ / "absent", folder_ / "x").code(), StatusCode::kNotFound);
  // A directory with something in it is never silently replaced.
  ASSERT_TRUE(storage().CreateDirectories(folder_ / "e").ok());
  EXPECT_FALSE(storage().Rename(folder_ / "e", folder_ / "d").ok());
}

TEST_P(StorageContract, RemoveAllTakesFoldersWithContentsAndWhatIsAbsentIsFine) {
  ASSERT_TRUE(storage().CreateDirectories(folder_ / "d/e").ok());
  ASSERT_TRUE(Write(storage(), folder_ / "d/e/f", "x").ok());
  EXPECT_TRUE(storage().RemoveAll(folder_ / "d").ok());
  EXPECT_FALSE(*storage().Exists(folder_ / "d"));
  EXPECT_TRUE(storage().RemoveAll(folder_ / "d").ok());
}

TEST_P(StorageContract, DirectoriesAreMadeWithParentsAndAgain) {
  EXPECT_TRUE(storage().CreateDirectories(folder_ / "a/b/c").ok());
  EXPECT_TRUE(storage().CreateDirectories(folder_ / "a/b/c").ok());
  EXPECT_TRUE(*storage().Exists(folder_ / "a/b/c"));
  EXPECT_TRUE(storage().SyncDirectory(folder_ / "a/b").ok());
  ASSERT_TRUE(Write(storage(), folder_ / "f", "").ok());
  EXPECT_FALSE(storage().CreateDirectories(folder_ / "f/x").ok());
  EXPECT_FALSE(storage().CreateDirectories(folder_ / "f").ok());
  EXPECT_FALSE(*storage().Exists(folder_ / "f/x"));
}

TEST_P(StorageContract, ErrorsNameThePath) {
  for (const Status& status : {storage().Open(folder_ / "absent").status(), storage().Create(folder_ / "no/such/f").status()}) {
    EXPECT_EQ(status.code(), StatusCode::kNotFound);
    EXPECT_THAT(Message(status), HasSubstr(folder_ / ""));
  }
  ASSERT_TRUE(storage().CreateDirectories(folder_ / "d").ok());
  EXPECT_EQ(storage().Open(folder_ / "d").status().code(), StatusCode::kFailedPrecondition);
  EXPECT_EQ(storage().Create(folder_ / "d").status().code(), StatusCode::kFailedPrecondition);
}

INSTANTIATE_TEST_SUITE_P(Each, StorageContract, ::testing::Values(true, false),
                         [](const auto& info) { return std::string(info.param ? "Posix" : "Simulated"); });

TEST(PosixStorage, NamedPipeIsRefusedAtOnceInsteadOfWaitedFor) {
  const Folder folder;
  ASSERT_EQ(mkfifo((folder / "pipe").c_str(), 0600), 0);
  EXPECT_THAT(Message(PosixStorage().Open(folder / "pipe").status()), HasSubstr("not a regular file"));
}

TEST(PosixStorage, FileThatIsCutWhileItIsReadIsAnErrorAndNotZeros) {
  const Folder folder;
  ASSERT_TRUE(Write(PosixStorage(), folder / "f", std::string(10'000, 'x')).ok());
  const auto file = PosixStorage().Open(folder / "f");
  ASSERT_EQ(truncate((folder / "f").c_str(), 100), 0);
  std::vector<std::byte> bytes(10'000);
  const Status status = (*file)->ReadAt(0, bytes);
  EXPECT_EQ(status.code(), StatusCode::kOutOfRange);
  EXPECT_THAT(Message(status), HasSubstr("the file was cut to 100 bytes while it was read (it had 10000)"));
}

// A limit on the file's size takes the place of a full disk: part is written, then the kernel says no.
TEST(PosixStorage, ErrorOfAWriteSticksToItsFile) {
  const Folder folder;
  const auto file = PosixStorage().Create(folder / "f");
  rlimit before = {};
  getrlimit(RLIMIT_FSIZE, &before);
  const rlimit small = {5000, before.rlim_max};
  const auto handler = signal(SIGXFSZ, SIG_IGN);
  setrlimit(RLIMIT_FSIZE, &small);
  const Status written = (*file)->Append(Bytes(std::string(8000, 'x')));
  setrlimit(RLIMIT_FSIZE, &before);
  signal(SIGXFSZ, handler);
  EXPECT_EQ(written.code(), StatusCode::kResourceExhausted) << written;
  EXPECT_THAT(Message(written), HasSubstr("write " + folder / "f"));
  EXPECT_EQ(std::filesystem::file_size(folder / "f"), 5000u);
  // There would be room now, but the file has a hole in what its writer believes.
  EXPECT_EQ((*file)->Append(Bytes("y")), written);
  EXPECT_EQ((*file)->Sync(), written);
  EXPECT_EQ((*file)->Close(), written);
  EXPECT_EQ(std::filesystem::file_size(folder / "f"), 5000u);
}

TEST(PosixStorage, DescriptorsAreClosedOnExecAndWhenTheFileGoes) {
  const Folder folder;
  const auto open_descriptors = [] {
    return std::distance(std::filesystem::directory_iterator("/proc/self/fd"), std::filesystem::directory_iterator());
  };
  const auto before = open_descriptors();
  {
    const auto writer = PosixStorage().Create(folder / "f");
    const auto reader = PosixStorage().Open(folder / "f");
    int found = 0;
    for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
      std::error_code gone;
      if (std::filesystem::read_symlink(entry, gone) != folder / "f") continue;
      ++found;
      EXPECT_NE(fcntl(std::stoi(entry.path().filename()), F_GETFD) & FD_CLOEXEC, 0);
    }
    EXPECT_EQ(found, 2);
  }
  EXPECT_EQ(open_descriptors(), before);
}

TEST(PosixError, CodeSaysWhatTheCallerCanDo) {
  EXPECT_EQ(PosixError("write", "f", ENOSPC).code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(PosixError("write", "f", EDQUOT).code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(PosixError("write", "f", EIO).code(), StatusCode::kDataLoss);
  EXPECT_EQ(PosixError("write", "f", EROFS).code(), StatusCode::kPermissionDenied);
  EXPECT_EQ(PosixError("write", "f", EMFILE).code(), StatusCode::kUnavailable);
  EXPECT_EQ(Message(PosixError("open", "a/b", ENOENT)), "open a/b: No such file or directory (errno 2)");
}

}  // namespace
}  // namespace dtrain
