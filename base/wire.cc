#include "base/wire.h"

#include "base/check.h"
#include "base/codec.h"
#include "base/crc32c.h"

namespace dtrain {
namespace {

constexpr uint32_t kMagic = 0x52465444;  // "DTFR"

Status Damaged(std::string_view what) { return DataLoss("read a frame: ", what); }

std::string HexNumber(uint32_t number) {
  char digits[9];
  return {digits, std::to_chars(digits, digits + sizeof digits, number, 16).ptr};
}

}  // namespace

std::vector<std::byte> EncodeFrameHeader(const FrameHeader& header, std::span<const std::byte> payload) {
  DTRAIN_CHECK(payload.size() == header.payload_bytes && header.payload_bytes <= kFramePayloadBytesMax);
  Encoder out;
  out.U32(kMagic);
  out.U16(kFrameVersion);
  out.U16(static_cast<uint16_t>(header.kind));
  out.U8(static_cast<uint8_t>(header.dtype));
  out.U8(0);
  out.U16(0);
  out.U32(header.exchange);
  out.U64(header.job);
  out.I64(header.view);
  out.I64(header.step);
  out.U64(header.part);
  out.I64(header.offset);
  out.U32(header.payload_bytes);
  out.U32(0);
  out.U32(0);
  out.U32(Crc32c(payload));
  out.U32(Crc32c(out.bytes()));
  out.U32(0);
  DTRAIN_CHECK(out.bytes().size() == kFrameHeaderBytes);
  return out.Take();
}

StatusOr<Frame> ParseFrame(std::span<const std::byte> bytes) {
  if (bytes.size() < kFrameHeaderBytes) {
    return Damaged(Cat(bytes.size(), " bytes; a header alone has ", kFrameHeaderBytes));
  }
  Decoder in(bytes.first(kFrameHeaderBytes));
  if (const uint32_t magic = in.U32(); magic != kMagic) {
    return Damaged(Cat("starts with 0x", HexNumber(magic), "; expected 0x", HexNumber(kMagic), " (\"DTFR\")"));
  }
  const uint16_t version = in.U16();
  constexpr size_t kChecked = kFrameHeaderBytes - 8;
  Decoder tail(bytes.subspan(kChecked - 4, 12));
  const uint32_t payload_crc = tail.U32(), header_crc = tail.U32(), reserved_tail = tail.U32();
  if (Crc32c(bytes.first(kChecked)) != header_crc) return Damaged("the header's checksum does not match: it was damaged on its way");
  if (version != kFrameVersion) {
    return Unimplemented("read a frame: version ", version, "; this program reads version ", kFrameVersion,
                         "\n  Hint: run the same build of dtrain on every host");
  }
  FrameHeader header;
  const uint16_t kind = in.U16();
  if (kind < 1 || kind > 5) return Damaged(Cat("kind ", kind, "; expected 1 to 5"));
  header.kind = static_cast<FrameKind>(kind);
  const uint8_t dtype = in.U8();
  if (dtype > static_cast<uint8_t>(DType::kBool)) return Damaged(Cat("element type ", dtype, "; expected 0 to 7"));
  header.dtype = static_cast<DType>(dtype);
  const uint32_t reserved = in.U8() | in.U16();
  header.exchange = in.U32();
  header.job = in.U64();
  header.view = in.I64();
  header.step = in.I64();
  header.part = in.U64();
  header.offset = in.I64();
  header.payload_bytes = in.U32();
  if ((reserved | in.U32() | in.U32() | reserved_tail) != 0) return Damaged("reserved bytes are not zero");
  if (header.view < 0 || header.step < 0 || header.offset < 0) return Damaged("view, step or offset is negative");
  if (header.payload_bytes > kFramePayloadBytesMax || header.payload_bytes != bytes.size() - kFrameHeaderBytes) {
    return Damaged(Cat("payload of ", bytes.size() - kFrameHeaderBytes, " bytes; the header says ", header.payload_bytes));
  }
  if (header.payload_bytes % ElementBytes(header.dtype) != 0) {
    return Damaged(Cat("payload of ", header.payload_bytes, " bytes is no whole number of ", SafetensorsName(header.dtype), " elements"));
  }
  if (header.offset > INT64_MAX - header.payload_bytes) return Damaged(Cat("offset ", header.offset, " lies beyond any buffer"));
  const auto payload = bytes.subspan(kFrameHeaderBytes);
  if (Crc32c(payload) != payload_crc) return Damaged("the payload's checksum does not match: it was damaged on its way");
  return Frame{header, payload};
}

}  // namespace dtrain
