// The frame of every data message between processes: what it belongs to (job, view, exchange, step, part), where its
// payload lies in the flat buffer, and two checksums. docs/wire.md has the grammar.
// Pure functions over bytes; nothing from a peer is used before ParseFrame accepted it.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "base/status.h"
#include "base/tensor_view.h"

namespace dtrain {

enum class FrameKind : uint16_t { kPush = 1, kPull = 2, kReduce = 3, kGather = 4, kControl = 5 };

// A frame's header is kFrameHeaderBytes: magic "DTFR", version, kind, these fields, the payload's CRC32C, the CRC32C of
// all header bytes before it, and 4 zero bytes. All integers little-endian.
struct FrameHeader {
  FrameKind kind = FrameKind::kControl;
  DType dtype = DType::kF32;
  uint64_t job = 0;       // random for each job, so that two jobs never mix
  int64_t view = 0;       // membership in force when it was sent
  uint32_t exchange = 0;  // one for each optimizer
  int64_t step = 0;
  uint64_t part = 0;   // bucket, or sub-tree as (level << 48 | index)
  int64_t offset = 0;  // first element of the payload in the flat buffer
  uint32_t payload_bytes = 0;
};

inline constexpr size_t kFrameHeaderBytes = 80;
inline constexpr uint16_t kFrameVersion = 1;
inline constexpr uint32_t kFramePayloadBytesMax = 64 << 20;

struct Frame {
  FrameHeader header;
  std::span<const std::byte> payload;  // a view into the parsed bytes
};

// The header for `payload`, whose size must equal header.payload_bytes.
std::vector<std::byte> EncodeFrameHeader(const FrameHeader& header, std::span<const std::byte> payload);

// The frame that `bytes` are, exactly. kDataLoss for bytes that were damaged or are no frame, kUnimplemented for a frame
// of another version; the message says which field, what was found and what was expected.
StatusOr<Frame> ParseFrame(std::span<const std::byte> bytes);

}  // namespace dtrain
