import Foundation

/// Runs a sampler of platform/pocketdit/diffusion/samplers.py. Times decrease from 1 (noise) to 0 (image).
public func sample(
    _ sampler: String, noise: [Float], times: [Double], velocity: ([Float], Double) async throws -> [Float]
) async throws -> [Float] {
    var x = noise
    var previous: [Float]?
    var previousH = 0.0
    for (start, end) in zip(times, times.dropFirst()) {
        let v = try await velocity(x, start)
        switch sampler {
        case "euler":
            x = moved(x, v, Float(end - start))
        case "heun":
            let predicted = moved(x, v, Float(end - start))
            guard end > 0 else {
                x = predicted
                break
            }
            let w = try await velocity(predicted, end)
            x = moved(x, zip(v, w).map { ($0 + $1) / 2 }, Float(end - start))
        case "dpmpp_2m":
            let data = moved(x, v, -Float(start))
            var estimate = data
            var h = 0.0
            if start < 1 && end > 0 {
                h = logSNR(end) - logSNR(start)
                if let previous, previousH != 0 {
                    let ratio = Float(h / previousH / 2)
                    estimate = zip(data, previous).map { $0 + ratio * ($0 - $1) }
                }
            }
            let kept = Float(end / start), added = Float(1 - end / start)
            x = zip(x, estimate).map { kept * $0 + added * $1 }
            previous = data
            previousH = h
        default:
            throw BundleError.unknownSampler(sampler)
        }
    }
    return x
}

private func moved(_ x: [Float], _ v: [Float], _ step: Float) -> [Float] {
    zip(x, v).map { $0 + step * $1 }
}

private func logSNR(_ time: Double) -> Double {
    log1p(-time) - log(time)
}
