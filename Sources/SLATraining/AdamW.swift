internal import CSimd
import SLABase
import SLAEngine

/// Adam with weight decay beside the gradient (Loshchilov and Hutter, arXiv 1711.05101), β = (0.9, 0.999), ε = 1e-8.
package final class AdamW {
    /// Running means of the gradients and of their squares.
    package let first, second: AlignedFloats
    /// Steps that have been taken.
    package var steps = 0
    private let parameters: [ChannelNetwork.Parameter]
    /// Pieces of the parameters, each worked on by one thread.
    private let pieces: [(range: Range<Int>, isMatrix: Bool)]
    private let threadPool: ThreadPool

    init(_ network: ChannelNetwork, threadPool: ThreadPool) {
        first = AlignedFloats(network.weights.count)
        second = AlignedFloats(network.weights.count)
        parameters = network.parameters
        self.threadPool = threadPool
        pieces = network.parameters.flatMap { parameter in
            stride(from: parameter.range.lowerBound, to: parameter.range.upperBound, by: 4096).map {
                ($0..<min($0 + 4096, parameter.range.upperBound), parameter.isMatrix)
            }
        }
    }

    /// The length of a gradient, as one vector: summed in pieces, and these in order.
    func norm(_ gradients: AlignedFloats) -> Double {
        var sums = [Double](repeating: 0, count: pieces.count)
        sums.withUnsafeMutableBufferPointer { sums in
            nonisolated(unsafe) let sums = sums
            threadPool.share(pieces.count, cost: gradients.count) { range in
                for piece in range {
                    let bounds = self.pieces[piece].range
                    var squares = Vector.zero
                    for i in stride(from: bounds.lowerBound, to: bounds.upperBound, by: 16) {
                        let v = UnsafePointer(gradients.base).clampedVector(i, bounds.upperBound)
                        squares += v * v
                    }
                    sums[piece] = Double(simd_total(squares))
                }
            }
        }
        return sums.reduce(0, +).squareRoot()
    }

    /// Changes `weights` against `gradients` times `scale`. Matrices are decayed, norms are not.
    package func step(_ weights: AlignedFloats, _ gradients: AlignedFloats, scale: Float, rate: Double, decay: Double) {
        steps += 1
        let (beta1, beta2) = (0.9, 0.999)
        let stepSize = Float(rate / (1 - portableExp(Double(steps) * portableLog(beta1))))
        let correction = Float((1 - portableExp(Double(steps) * portableLog(beta2))).squareRoot())
        let (new1, old2, new2) = (Float(1 - beta1), Float(beta2), Float(1 - beta2))
        threadPool.share(pieces.count, cost: 16 * weights.count) { range in
            let (w, g, m, v) = (weights.base, gradients.base, self.first.base, self.second.base)
            for piece in range {
                let shrink = self.pieces[piece].isMatrix ? Float(1 - rate * decay) : 1
                for i in self.pieces[piece].range {
                    let gradient = g[i] * scale
                    m[i] += (gradient - m[i]) * new1
                    v[i] = v[i] * old2 + gradient * gradient * new2
                    w[i] = w[i] * shrink - stepSize * m[i] / (v[i].squareRoot() / correction + 1e-8)
                }
            }
        }
    }
}
