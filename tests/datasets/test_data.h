// What several tests of data sets need: real data where there is some, a folder for files of one test, batches by hand.
#pragma once
#include <gtest/gtest.h>
#include <zlib.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <string>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "datasets/dataset.h"

namespace dtrain {

// Where published sets lie: $DTRAIN_DATA, else shared/data beside the checkout.
inline std::string RealDataFolder() {
  const char* given = std::getenv("DTRAIN_DATA");
  if (given != nullptr && *given != '\0') return given;
  return (std::filesystem::path(DTRAIN_SOURCE_DIR).parent_path() / "shared" / "data").string();
}

// At the head of a test that reads `path` of the real data; the reason is printed, the test counted as skipped.
#define DTRAIN_NEEDS_DATA(path)                                                                                                   \
  if (!std::filesystem::exists(::dtrain::RealDataFolder() + "/" + (path))) {                                                      \
    GTEST_SKIP() << "no data: " << (path) << " is not in " << ::dtrain::RealDataFolder() << " (DTRAIN_DATA says where data lie)"; \
  }                                                                                                                               \
  static_assert(true)

// An empty folder, removed at the end of the scope.
class TempFolder {
 public:
  TempFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "dtrain-datasets-XXXXXX").string();
    DTRAIN_CHECK(mkdtemp(name.data()) != nullptr);
    path_ = name;
  }
  ~TempFolder() { std::filesystem::remove_all(path_); }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;

  const std::string& path() const { return path_; }
  std::string Write(const std::string& name, std::string_view bytes) const {
    const std::string path = path_ + "/" + name;
    std::filesystem::create_directories(std::filesystem::path(path).parent_path());
    std::ofstream(path, std::ios::binary) << bytes;
    return path;
  }

 private:
  std::string path_;
};

inline std::span<const std::byte> AsBytes(std::string_view text) { return std::as_bytes(std::span(text)); }

// `text` as one gzip member, made by zlib.
inline std::string Gzip(std::string_view text) {
  z_stream stream = {};
  DTRAIN_CHECK(deflateInit2(&stream, Z_BEST_SPEED, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) == Z_OK);
  std::string packed(deflateBound(&stream, text.size()) + 32, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(packed.data());
  stream.avail_out = static_cast<uInt>(packed.size());
  DTRAIN_CHECK(deflate(&stream, Z_FINISH) == Z_STREAM_END);
  packed.resize(stream.total_out);
  deflateEnd(&stream);
  return packed;
}

inline std::string BigEndian(std::initializer_list<uint32_t> numbers) {
  std::string bytes;
  for (const uint32_t number : numbers) {
    for (const int shift : {24, 16, 8, 0}) bytes += static_cast<char>(number >> shift);
  }
  return bytes;
}

inline std::vector<int64_t> Range(int64_t begin, int64_t end) {
  std::vector<int64_t> numbers(static_cast<size_t>(end - begin));
  std::iota(numbers.begin(), numbers.end(), begin);
  return numbers;
}

// The samples `indices` of `dataset`, as evaluation sees them unless `augment` is given.
inline Batch Gathered(const Dataset& dataset, std::span<const int64_t> indices, const AugmentContext* augment = nullptr) {
  Batch batch;
  const Status status = dataset.Gather(indices, augment, &batch);
  EXPECT_TRUE(status.ok()) << status;
  return batch;
}
inline Batch Gathered(const Dataset& dataset, std::initializer_list<int64_t> indices) {
  return Gathered(dataset, std::vector<int64_t>(indices));
}

template <typename T>
std::vector<T> ToVector(std::span<const T> numbers) {
  return {numbers.begin(), numbers.end()};
}
inline std::vector<float> Inputs(const Batch& batch) { return ToVector(batch.inputs<float>()); }
inline std::vector<int64_t> ClassTargets(const Batch& batch) { return ToVector(batch.targets<int64_t>()); }

}  // namespace dtrain
