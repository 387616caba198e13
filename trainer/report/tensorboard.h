// Event files as TensorBoard reads them: TFRecord frames around Event messages, encoded by hand since both are a few lines
// and protobuf is none of this library's business.
//
//   record  = length (u64) masked_crc32c(length) (u32) data masked_crc32c(data) (u32)      all little-endian
//   masked  = ((crc >> 15) | (crc << 17)) + 0xa282ead8
//   Event   = 1: wall_time (double)  2: step (int64)  3: file_version (text) | 5: Summary | 7: SessionLog
//   Summary = 1: repeated { 1: tag (text)  2: simple_value (float) };  SessionLog = 1: status (START = 1)
//
// After tensorflow/core/lib/io/record_writer.cc and tensorboard/compat/proto/event.proto.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.h"
#include "base/storage.h"
#include "base/view.h"

namespace dtrain {

uint32_t MaskedCrc32c(std::span<const std::byte> bytes);

// `data` in a TFRecord frame.
std::string TfRecord(std::string_view data);

// A name that sorts by time: "events.out.tfevents.1767225600.worker-7.4711".
std::string EventFileName(double wall_seconds, std::string_view host, int64_t process_id);

class TensorboardWriter {
 public:
  using Scalars = std::vector<std::pair<std::string, double>>;  // tag, value

  // A new file. `first_step` is the first step that may appear in it: TensorBoard drops what older files of the folder say
  // of it and later ones, as is right after a resume.
  static StatusOr<TensorboardWriter> Create(Storage& storage, const std::string& path, double wall_seconds, Step first_step);

  // One event; written through to the file. An error sticks (a record behind a torn one would never be read).
  Status Write(double wall_seconds, Step step, const Scalars& scalars);

 private:
  explicit TensorboardWriter(std::unique_ptr<WritableFile> file) : file_(std::move(file)) {}
  Status Append(std::string_view record);

  std::unique_ptr<WritableFile> file_;
  Status failure_;
};

}  // namespace dtrain
